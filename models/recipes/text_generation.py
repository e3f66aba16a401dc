"""A small writer: a Llama of 6.9 million parameters with words of its own, trained on Wikipedia from nothing.

    python models/recipes/text_generation.py DATA OUT [--epochs 3]

8,192 byte-level BPE tokens are learnt from the text, then six layers of width 256 learn to go on with it, 256 tokens at a time.

Data: the paragraphs of SQuAD's training articles (Wikipedia; CC BY-SA 4.0). Those of its dev articles only measure. An epoch on two
cores takes about 15 minutes.
"""

import math
from pathlib import Path

import numpy as np
import tokenizers
import torch
from corpora import paragraphs
from saving import card
from training import Plan, arguments, fit, seeded
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS, WINDOW, TRAINED = 8192, 512, 256
END = "<|endoftext|>"


def main() -> None:
    """Make it."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    seeded(options.seed, options.threads)
    train, dev = (options.data / "lm" / f"wiki_squad_contexts.{part}.txt" for part in ("train", "dev"))
    tokenizer = _tokenizer(train)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=WINDOW,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    print(f"{model.num_parameters()} parameters", flush=True)
    ids = _ids(tokenizer, train)
    rows = ids[: len(ids) // TRAINED * TRAINED].reshape(-1, TRAINED)
    print(f"{rows.size} tokens", flush=True)

    def loss(members: list[int]) -> torch.Tensor:
        return _surprise(model, torch.from_numpy(rows[members]))

    plan = Plan(epochs=options.epochs, batch=16, rate=2e-3, warmup=0.03, decay=0.1)
    fit(model, loss, [TRAINED] * len(rows), plan, run=options.out / "runs" / "text-generation", seed=options.seed)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        repetition_penalty=1.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(options.out / "text-generation")
    tokenizer.save_pretrained(options.out / "text-generation")
    card(options.out / "text-generation", "CC-BY-SA-4.0", "A small Llama that writes English, trained on Wikipedia.")
    perplexity, bits = measured(model, tokenizer, dev)
    print(
        f"text-generation: perplexity {perplexity:.2f} a token, {bits:.3f} bits a byte of the dev articles", flush=True
    )


def _tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE, learnt from a file."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(paragraphs(path), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token=END, eos_token=END, pad_token=END, model_max_length=WINDOW
    )


def _ids(tokenizer: PreTrainedTokenizerFast, path: Path) -> np.ndarray:
    """All paragraphs one behind the other, an end token before each."""
    end = tokenizer.eos_token_id
    found = tokenizer(list(paragraphs(path)), add_special_tokens=False)["input_ids"]
    return np.concatenate([np.array([end, *ids]) for ids in found])


def _surprise(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Mean surprise, in nats, at each token after the first of a row."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, WORDS), ids[:, 1:].reshape(-1))


@torch.inference_mode()
def measured(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> tuple[float, float]:
    """Perplexity of a token, and bits of a byte, of every eighth paragraph; each is read from its beginning, up to the window."""
    model.eval()
    nats, tokens, size = 0.0, 0, 0
    for text in list(paragraphs(path))[::8]:
        ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]][:WINDOW]
        nats += float(_surprise(model, torch.tensor([ids]))) * (len(ids) - 1)
        tokens += len(ids) - 1
        size += len(tokenizer.decode(ids[1:]).encode())
    return math.exp(nats / tokens), nats / math.log(2) / size


if __name__ == "__main__":
    main()
