"""An opened bundle: its tokenizer and its graphs, loaded once and shared by tasks. Knows no task."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgenlp.bundle import Bundle, open_bundle
from edgenlp.decoder import Decoder
from edgenlp.encode import Encoder
from edgenlp.encoder_decoder import EncoderDecoder
from edgenlp.errors import BundleError, InputError
from edgenlp.growing.decoder import GrowingDecoder
from edgenlp.growing.encoder_decoder import GrowingEncoderDecoder
from edgenlp.language_model import CausalLM, Seq2SeqLM
from edgenlp.session import PRESETS, Session
from edgenlp.tokens import Tokens

__all__ = ["Model", "open_model"]


@dataclass(frozen=True)
class Model:
    """What a task runs on.

    Attributes:
        bundle: The facts of `edgenlp.json`.
        tokens: Text to ids and back.
        passes: Role ("encoder", "decoder", "seq2seq") to what runs the graph, or graphs, of that role.
        threads: Threads that one call uses.
        target: The tokenizer of what is written, where it is another.
    """

    bundle: Bundle
    tokens: Tokens
    passes: Mapping[str, Any]
    threads: int
    target: Tokens | None = None

    @property
    def target_tokens(self) -> Tokens:
        """Ids that are written to text, and back: `tokens`, but for a bundle with two vocabularies."""
        return self.target or self.tokens

    @property
    def encoder(self) -> Encoder:
        """Ids to arrays.

        Raises:
            BundleError: The bundle has no encoder.
        """
        found: Encoder | None = self.passes.get("encoder")
        if found is None:
            raise BundleError(f"{self.bundle.folder} holds no encoder; it serves {', '.join(self.bundle.tasks)}")
        return found

    @property
    def decoder(self) -> CausalLM:
        """Ids to logits, with a cache.

        Raises:
            BundleError: The bundle has no decoder.
        """
        found: CausalLM | None = self.passes.get("decoder")
        if found is None:
            raise BundleError(f"{self.bundle.folder} holds no decoder; it serves {', '.join(self.bundle.tasks)}")
        return found

    @property
    def seq2seq(self) -> Seq2SeqLM:
        """Ids of a source to what targets are written from.

        Raises:
            BundleError: The bundle has no encoder and decoder.
        """
        found: Seq2SeqLM | None = self.passes.get("seq2seq")
        if found is None:
            raise BundleError(
                f"{self.bundle.folder} holds no encoder-decoder; it serves {', '.join(self.bundle.tasks)}"
            )
        return found


def open_model(
    folder: str | os.PathLike[str], *, threads: int | None = None, preset: str = "balanced", verify: bool = True
) -> Model:
    """Load a bundle.

    Args:
        folder: The bundle.
        threads: Threads per call; None for what the preset says, by default all that the container grants.
        preset: "balanced", "latency", "throughput" or "battery" (`edgenlp.session.PRESETS`).
        verify: Compare every file with its recorded hash, on a thread of its own while the graph loads.

    Raises:
        BundleError: The folder is not a bundle that this version can open, or was altered.
        InputError: No such preset, or an impossible number of threads.
    """
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise InputError(f"threads must be a number from 1 to 1024, found {threads!r}")
    chosen = PRESETS[preset]
    bundle = open_bundle(folder)
    with ThreadPoolExecutor(1) as pool:
        hashes = pool.submit(bundle.check_hashes) if verify else None
        try:
            tokens = Tokens(bundle.path(bundle.tokenizer.file), bundle.tokenizer)
            written = bundle.target_tokenizer
            target = Tokens(bundle.path(written.file), written) if written else None
            # threads of one graph that went on spinning would take the processor from those of the other
            spinning = "running" if chosen.spinning == "always" and len(bundle.graphs) > 1 else chosen.spinning
            sessions = {
                role: Session(bundle.path(name), threads=threads or chosen.threads, spinning=spinning)
                for role, name in bundle.graphs.items()
            }
            passes = _passes(bundle, sessions, chosen.tokens)
        finally:  # an altered file explains a failure to load better than the loader does
            if hashes:
                hashes.result()
    return Model(bundle, tokens, passes, next(iter(sessions.values())).threads, target)


def _passes(bundle: Bundle, sessions: Mapping[str, Session], tokens: int) -> dict[str, Encoder | CausalLM | Seq2SeqLM]:
    """What runs the graphs, by role; a traced graph's takes the place of that of a graph with a cache in place."""
    if unknown := sorted(set(sessions) - {"decoder", "encoder", "prompt"}):
        raise BundleError(f"the bundle has a {unknown[0]!r} graph, which this edgenlp cannot run; upgrade edgenlp")
    window, target, growing = bundle.window, bundle.target_window or bundle.window, bundle.growing
    if {"encoder", "decoder"} <= set(sessions):
        both = sessions["encoder"], sessions["decoder"]
        if growing:
            traced = GrowingEncoderDecoder(*both, growing, window=window, target_window=target, tokens=tokens)
            return {"seq2seq": traced}
        return {"seq2seq": EncoderDecoder(*both, window=window, target_window=target, tokens=tokens)}
    passes: dict[str, Encoder | CausalLM | Seq2SeqLM] = {}
    if "encoder" in sessions:
        passes["encoder"] = Encoder(sessions["encoder"], window=window, tokens=tokens)
    if "decoder" in sessions and growing:
        passes["decoder"] = GrowingDecoder(sessions["decoder"], growing, window=window, tokens=tokens)
    elif "decoder" in sessions:
        prompt = sessions.get("prompt")
        passes["decoder"] = Decoder(sessions["decoder"], window=window, tokens=tokens, prompt=prompt)
    return passes
