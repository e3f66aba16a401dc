"""Prompts to what follows them: chooses the loop that the options ask for, and starts it. Knows ids only, no text.

A prompt's answer depends on the prompt, the options and the seed, never on what else is in the batch.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgenlp.decode.beams import BeamPlan, Search, search
from edgenlp.decode.contrastive import contrast
from edgenlp.decode.greedy import Chooser, write
from edgenlp.decode.groups import GroupSearch, search_groups
from edgenlp.decode.guidance import Paired
from edgenlp.decode.lookup import write_ahead
from edgenlp.decode.options import Generation
from edgenlp.decode.processors import Diversity, Processor, processors
from edgenlp.decode.rows import Collect, Ends, Floats, Generated, Model, Process, Row, Rows, Sequences, Written
from edgenlp.decode.sampling import Stream, draw, draw_several
from edgenlp.decode.stopping import Decode, Stopping
from edgenlp.decode.warpers import Warp
from edgenlp.errors import InputError, TooLongError

__all__ = ["generate", "stream"]

Prompts = Sequence[Sequence[int]]


def generate(
    model: Model,
    prompts: Prompts,
    options: Generation,
    *,
    decode: Decode | None = None,
    sources: Rows | None = None,
    guides: Sequence[Processor] = (),
    sequences: Sequences | None = None,
) -> list[list[Generated]]:
    """What follows each prompt.

    Nothing is written beyond the model's window: a sequence that reaches it ends with "length", whatever max_new_tokens says.
    Cancelling (`options.cancel`) and max_time end all sequences where they are, and what there is comes back.

    Args:
        model: Starts sequences.
        prompts: Ids, at least one each, of any lengths.
        options: Made by `merged`.
        decode: Ids to their text; needed with stop_strings.
        sources: Per prompt what an encoder read, which the encoder's penalties look at; None for the prompts themselves.
        guides: Processors of edgenlp's own, after the caller's.
        sequences: One row per prompt that holds the beginning of it already, at least one id less than all, with room for
            what is to be written; None to begin with nothing. Read and written on, also after this call.

    Returns:
        Per prompt its num_return_sequences sequences; of beams the best first.

    Raises:
        TooLongError: A prompt leaves no room in the window.
        InputError: A prompt is empty or holds an id that the model does not know, or the options do not fit.
    """
    if not prompts:
        return []
    call = _Call(model, prompts, options, decode=decode, sources=sources, guides=guides, given=sequences)
    for _ in call.run():
        pass
    return call.results()


def stream(
    model: Model,
    prompts: Prompts,
    options: Generation,
    *,
    decode: Decode | None = None,
    sources: Rows | None = None,
    guides: Sequence[Processor] = (),
    sequences: Sequences | None = None,
) -> Iterator[list[Written]]:
    """As `generate`, token by token: per step of the model what it wrote of each sequence that is under way.

    Nothing is computed ahead of what is asked for, and closing the iterator ends the work. The arguments, and what is written,
    are `generate`'s.

    Raises:
        InputError: As `generate`; and beams cannot be streamed, since the best is known at the end only.
    """
    if options.num_beams > 1:
        raise InputError(
            f"num_beams={options.num_beams} cannot be streamed: the best beam is known at the end only; set num_beams=1,"
            " or ask for the whole"
        )
    if not prompts:
        return iter(())
    return _Call(model, prompts, options, decode=decode, sources=sources, guides=guides, given=sequences).run()


@dataclass
class _Call:
    """One call: its parts are made when it begins, and put together by `run`."""

    model: Model
    prompts: Prompts
    options: Generation
    decode: Decode | None
    sources: Rows | None
    guides: Sequence[Processor]
    given: Sequences | None
    rows: list[Row] = field(default_factory=list)
    searches: Sequence[Search | GroupSearch] = ()

    def __post_init__(self) -> None:
        options = self.options
        self.negative = _negative(self.prompts, options)
        self.spans = [
            _span(prompt, self.negative[number] if self.negative else (), options, self.model)
            for number, prompt in enumerate(self.prompts)
        ]
        self.collect = Collect(options.output_scores, options.output_logits, options.output_logprobs)
        self.diversity = Diversity(options.diversity_penalty) if options.mode == "group_beam_search" else None
        self.pair: Paired | None = None
        self.rules = processors(
            options,
            prompts=[np.asarray(prompt, np.int64) for prompt in self.prompts],
            columns=self.model.columns,
            limits=self.spans,
            sources=self.sources,
            unconditional=None if self.diversity else self._without,
            diversity=self.diversity,
            guides=self.guides,
        )
        stopping = Stopping(options, decode=self.decode)
        self.ends = Ends(
            options.eos_token_id,
            None if not (options.stop_strings or options.stopping_criteria) else stopping.row,
            None if options.max_time is None and options.cancel is None else stopping.now,
        )
        if self.given is not None:
            _check_given(self.given, self.prompts, contrastive=options.mode == "contrastive_search")

    def _without(self, ids: Rows, owners: Sequence[int]) -> Floats:
        """What the model says without the prompts, for the processor of guidance."""
        assert self.pair is not None
        return self.pair.without

    def run(self) -> Iterator[list[Written]]:
        """The loop."""
        options, mode = self.options, self.options.mode
        sequences, logits = self._read(hidden=mode == "contrastive_search")
        if options.num_beams > 1:
            for _ in self._search(sequences, logits):
                yield []
            return
        self.rows = [
            Row(prompt, prompt=number, place=place, limit=self.spans[number][1])
            for number, prompt in enumerate(self.prompts)
            for place in range(options.num_return_sequences)
        ]
        if options.num_return_sequences > 1:  # a prompt is read once, however often it is answered
            parents = [row.prompt for row in self.rows]
            sequences.select(parents)
            logits = logits[parents]
        choose = self._chooser()
        if mode == "contrastive_search":
            yield from contrast(
                sequences,
                self.rows,
                logits,
                ends=self.ends,
                choose=choose,
                alpha=options.penalty_alpha,
                candidates=options.top_k,
            )
        elif options.prompt_lookup_num_tokens:
            yield from write_ahead(
                sequences,
                self.rows,
                logits,
                ends=self.ends,
                choose=choose,
                count=options.prompt_lookup_num_tokens,
                longest=options.max_matching_ngram_size,
            )
        else:
            yield from write(sequences, self.rows, logits, ends=self.ends, choose=choose)

    def results(self) -> list[list[Generated]]:
        """Per prompt its sequences, once the loop is over."""
        if self.searches:
            return [item.results() for item in self.searches]
        count = self.options.num_return_sequences
        found = [row.generated(self.collect) for row in self.rows]
        return [found[place : place + count] for place in range(0, len(found), count)]

    def _read(self, *, hidden: bool) -> tuple[Sequences, Floats]:
        """Sequences that have read the prompts, and the logits [prompts, columns] after them."""
        options = self.options
        count, capacity = len(self.prompts), max(most for _, most in self.spans)
        each = max(options.num_beams, options.num_return_sequences)
        if hidden:
            each = min(options.top_k, self.model.columns)
        sequences, rest = self.given, self.prompts
        if sequences is None:
            sequences = self.model.start(count, capacity, most=count * each, hidden=hidden)
        else:
            rest = [prompt[int(held) :] for prompt, held in zip(self.prompts, sequences.lengths, strict=True)]
        logits: Floats = sequences.read(rest)
        if self.negative is None:
            return sequences, logits
        longest = max(
            len(own) + most - len(prompt)
            for own, prompt, (_, most) in zip(self.negative, self.prompts, self.spans, strict=True)
        )
        second = self.model.start(count, longest, most=count * each)
        self.pair = Paired(sequences, second, second.read(self.negative))
        return self.pair, logits

    def _chooser(self) -> Chooser:
        options, rules = self.options, self.rules
        if not options.do_sample:
            return Chooser(_chained(rules), None, self.collect)
        seed = secrets.randbits(64) if options.seed is None else options.seed
        streams = {(row.prompt, row.place): Stream(seed, row.place) for row in self.rows}
        warper: Warp | None = None
        seen = self.collect.scores or self.collect.logprobs or options.stopping_criteria
        if not seen and rules and isinstance(last := rules[-1], Warp):
            rules, warper = rules[:-1], last  # nobody sees its scores: the draw alone needs it
        return Chooser(
            _chained(rules),
            lambda rows, scores: draw(scores, [streams[row.prompt, row.place] for row in rows], warp=warper),
            self.collect,
        )

    def _search(self, sequences: Sequences, logits: Floats) -> Iterator[None]:
        """The loop over beams."""
        options = self.options
        plan = BeamPlan(
            num_beams=options.num_beams,
            keep=options.num_return_sequences,
            length_penalty=options.length_penalty,
            early_stopping=options.early_stopping,
            collect=self.collect,
        )
        limits = [most for _, most in self.spans]
        process = _chained(self.rules)
        if self.diversity is not None:
            assert process is not None
            groups, pad = options.num_beam_groups, options.pad_token_id or 0
            diverse = [
                GroupSearch(prompt, number=number, limit=limits[number], plan=plan, groups=groups, pad=pad)
                for number, prompt in enumerate(self.prompts)
            ]
            self.searches = diverse
            yield from search_groups(
                sequences, diverse, logits, ends=self.ends, process=process, diversity=self.diversity
            )
            return
        plain = [
            Search(prompt, number=number, limit=limits[number], plan=plan) for number, prompt in enumerate(self.prompts)
        ]
        self.searches = plain
        seed = secrets.randbits(64) if options.seed is None else options.seed
        streams = [Stream(seed, 0) for _ in plain]
        yield from search(
            sequences,
            plain,
            logits,
            ends=self.ends,
            process=process,
            draw=(lambda scores, count, number: draw_several(scores, count, streams[number]))
            if options.do_sample
            else None,
        )


def _span(prompt: Sequence[int], negative: Sequence[int], options: Generation, model: Model) -> tuple[int, int]:
    """Least and most tokens of a prompt's sequences, the prompt included."""
    if not len(prompt):
        raise InputError("a prompt has no tokens: nothing can follow it; give text, or begin with the bos token")
    for ids in (prompt, negative):
        if len(ids) and not 0 <= min(ids) <= max(ids) < model.columns:
            raise InputError(
                f"a prompt holds the ids {min(ids)} to {max(ids)}, the model knows 0 to {model.columns - 1}; use its own tokenizer"
            )
        if len(ids) >= model.window:
            raise TooLongError(
                f"the prompt is {len(ids)} tokens long, the model's window is {model.window}: no token can follow; shorten it"
            )
    least, most = options.span(len(prompt), model.window)
    return least, min(most, len(prompt) + model.window - len(negative))


def _negative(prompts: Prompts, options: Generation) -> list[Sequence[int]] | None:
    """Per prompt what guidance moves away from; None without guidance."""
    if options.guidance_scale is None or options.guidance_scale == 1:
        return None
    given = options.negative_prompt_ids
    if given is None:
        return [prompt[-1:] for prompt in prompts]
    if len(given) not in (1, len(prompts)):
        raise InputError(
            f"negative_prompt_ids has {len(given)} rows for {len(prompts)} prompts; give one for all, or one for each"
        )
    return [given[number % len(given)] for number in range(len(prompts))]


def _check_given(given: Sequences, prompts: Prompts, *, contrastive: bool) -> None:
    held = given.lengths.tolist()
    if len(held) != len(prompts) or any(own >= len(prompt) for own, prompt in zip(held, prompts, strict=False)):
        raise InputError(
            f"sequences that hold {held} tokens do not fit prompts of {[len(prompt) for prompt in prompts]}: each must hold at"
            " least one token less than its prompt; rewind them"
        )
    if contrastive and any(held):
        raise InputError(
            "contrastive search compares with every token of the prompt, and sequences that were read before keep no"
            " hidden states; begin with empty ones"
        )


def _chained(rules: Sequence[Processor]) -> Process | None:
    """All processors as one; None where there are none."""
    if not rules:
        return None

    def process(ids: Rows, scores: Floats, owners: Sequence[int]) -> Floats:
        for rule in rules:
            scores = rule(ids, scores, owners)
        return scores

    return process
