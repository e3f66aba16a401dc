"""The workloads, one file each: what is asked of an engine. Knows no engine.

A file says what goes in, what counts as the answer, how one call is timed, how far the answer may be from the
reference, and what the machine would need at least.

A workload called NAME is `workloads/NAME.py` with

    MODELS           checkpoints compared if none are named (names of `checkpoints.py`)
    ENGINES          engines compared if none are named
    DEFAULTS, QUICK  the command line's settings, and those that `--quick` replaces
    CASES            name -> what it is, in the order of the tables
    MEASURES         what is timed: name -> a line for the table's heading; HIGHER names those where more is better
    CHECKS           what `check` returns for the table: name -> a line for the column's heading
    EXPLAINED        paragraphs for the report: what the checks and the limits mean
    inputs(config) -> {case: inputs}                    the same on every machine
    measure(call, inputs) -> (answer, {measure: value}) one timed call
    check(reference, answers) -> {check: value}         both {case: answer}; higher is worse unless the heading says so
    wrong(checks) -> bool                               so far off that its speed means nothing
    limits(config, inputs, machine) -> {measure: {bound: value}}

A workload whose calls are more than one answer and one time (`decoder`, `seq2seq`) replaces `measure` by

    probe(call, config) -> answers                      what is compared with the reference's, after the timing
    time_cases(call, inputs, config, effort, peak) -> {case: {measure: {"median", "min", "calls"}}}
    share(config, inputs, machine, entry, measures) -> value or None    of the limit, for what this engine reads
    SHARE                                               optional: the heading of its table, else the bandwidth limit's

and, in every engine that takes part, the functions `prepare_NAME` and `load_NAME` (see `engines/__init__.py`).
"""
