"""The engines, one adapter file each, named after what it runs. Knows nothing of timing, rounds or reports.

An adapter uses its engine as that engine's users do, by the public calls of its documentation.

An engine called NAME is `engines/NAME.py` with

    PACKAGES    distributions whose versions belong in the result
    OPTIONS     option -> its values, the default first; `--engines NAME:option=value` chooses
    NOTE        one line on how it is run, for the report
    prepare_WORKLOAD(checkpoint, out, options)             untimed, once: leave in `out` what a user would ship, no more
    load_WORKLOAD(prepared, threads, options) -> call      timed as load time, so heavy imports belong inside

    facts_WORKLOAD(prepared, config, options)              optional: what the engine tells of its files, as a dict

for every workload that it takes part in. `call` is what gets timed: for `encoder`, lists of token ids in, logits
float32 [texts, labels] out; for `decoder` and `seq2seq`, the `Writer` of that workload. How it batches, sorts and pads is
the engine's affair, and its cost. An engine that does not know a model raises NotImplementedError when it prepares: it is
named in the report and that is no failure.
"""
