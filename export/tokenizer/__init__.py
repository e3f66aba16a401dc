"""Any tokenizer file to the text of a `tokenizer.json`: WordPiece, byte-level BPE, SentencePiece, Marian. Knows no model."""

from .convert import convert_target_tokenizer, convert_tokenizer

__all__ = ["convert_target_tokenizer", "convert_tokenizer"]
