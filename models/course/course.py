"""The examples of the Hugging Face course's first chapter, unchanged but for one import, on the models that edgenlp ships.

    python models/course/course.py    run them here
    python models/course/cells.py     run them, and write course.ipynb with the answers

Calls and example texts: huggingface/course, chapters 1.3 and 1.9 (Apache-2.0).
"""
# The course's own code, cell by cell: every cell imports what it needs and ends with what it shows.
# ruff: noqa: E402

if __name__ == "__main__":  # as a notebook does: cell by cell, each showing its value, going on after an error
    import cells

    raise SystemExit(cells.play(__file__))

# %% [markdown]
# # Transformers, what can they do?
#
# The calls of [chapter 1 of the Hugging Face course](https://huggingface.co/learn/llm-course/chapter1/3) with `from edgenlp import
# pipeline` in place of `from transformers import pipeline`. No PyTorch, and nothing is fetched: the models come with `edgenlp-models`.
# They are small, so answers are not those that the course prints. A task without a model that ships says so in one line.
# Calls and example texts are the course's (huggingface/course, Apache-2.0).

# %% [markdown]
# ## Sentiment analysis

# %%
from edgenlp import pipeline

classifier = pipeline("sentiment-analysis")
classifier("I've been waiting for a HuggingFace course my whole life.")

# %%
classifier(["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"])

# %% [markdown]
# ## Zero-shot classification

# %%
from edgenlp import pipeline

classifier = pipeline("zero-shot-classification")
classifier(
    "This is a course about the Transformers library",
    candidate_labels=["education", "politics", "business"],
)

# %% [markdown]
# ## Text generation
#
# Every run writes something else; `seed=7` would repeat itself.

# %%
from edgenlp import pipeline

generator = pipeline("text-generation")
generator("In this course, we will teach you how to")

# %% [markdown]
# A name of the Hub is the one thing that cannot work as it is, for edgenlp fetches nothing:

# %%
from edgenlp import pipeline

generator = pipeline("text-generation", model="HuggingFaceTB/SmolLM2-360M")
generator("In this course, we will teach you how to", max_length=30, num_return_sequences=2)

# %% [markdown]
# With the default model. As in transformers 4.57, a call's `max_length` gives way to the task's own 256 new tokens, with a warning;
# `max_new_tokens=20` would not.

# %%
generator = pipeline("text-generation")
generator("In this course, we will teach you how to", max_length=30, num_return_sequences=2)

# %% [markdown]
# ## Mask filling
#
# The course's model writes its mask `<mask>`, others write it otherwise; here it is taken from the model.

# %%
from edgenlp import pipeline

unmasker = pipeline("fill-mask")
mask = unmasker.tokens.special_token("mask")
unmasker(f"This course will teach you all about {mask} models.", top_k=2)

# %% [markdown]
# ## Named entity recognition

# %%
from edgenlp import pipeline

ner = pipeline("ner", aggregation_strategy="simple")
ner("My name is Sylvain and I work at Hugging Face in Brooklyn.")

# %% [markdown]
# Older editions of the course say it in the old way:

# %%
ner = pipeline("ner", grouped_entities=True)
ner("My name is Sylvain and I work at Hugging Face in Brooklyn.")

# %% [markdown]
# ## Question answering

# %%
from edgenlp import pipeline

question_answerer = pipeline("question-answering")
question_answerer(
    question="Where do I work?",
    context="My name is Sylvain and I work at Hugging Face in Brooklyn",
)

# %% [markdown]
# ## Summarization

# %%
from edgenlp import pipeline

summarizer = pipeline("summarization")
summarizer(
    """
    America has changed dramatically during recent years. Not only has the number of
    graduates in traditional engineering disciplines such as mechanical, civil,
    electrical, chemical, and aeronautical engineering declined, but in most of
    the premier American universities engineering curricula now concentrate on
    and encourage largely the study of engineering science. As a result, there
    are declining offerings in engineering subjects dealing with infrastructure,
    the environment, and related issues, and greater concentration on high
    technology subjects, largely supporting increasingly complex scientific
    developments. While the latter is important, it should not be at the expense
    of more traditional engineering.

    Rapidly developing economies such as China and India, as well as other
    industrial countries in Europe and Asia, continue to encourage and advance
    the teaching of engineering. Both China and India, respectively, graduate
    six and eight times as many traditional engineers as does the United States.
    Other industrial countries at minimum maintain their output, while America
    suffers an increasingly serious decline in the number of engineering graduates
    and a lack of well-educated engineers.
"""
)

# %% [markdown]
# ## Translation
#
# Again a name of the Hub:

# %%
from edgenlp import pipeline

translator = pipeline("translation", model="Helsinki-NLP/opus-mt-fr-en")
translator("Ce cours est produit par Hugging Face.")

# %% [markdown]
# With the default model, if there is one:

# %%
translator = pipeline("translation_fr_to_en")
translator("Ce cours est produit par Hugging Face.")

# %% [markdown]
# ## Feature extraction
#
# The course lists it without a call. A vector for each token, those at both ends included:

# %%
from edgenlp import pipeline

extractor = pipeline("feature-extraction")
(vectors,) = extractor("This course will teach you all about Transformers.")
len(vectors), len(vectors[0])

# %% [markdown]
# ## Bias and limitations
#
# The course asks BERT:

# %%
from edgenlp import pipeline

unmasker = pipeline("fill-mask", model="bert-base-uncased")
result = unmasker("This man works as a [MASK].")
print([r["token_str"] for r in result])

result = unmasker("This woman works as a [MASK].")
print([r["token_str"] for r in result])

# %% [markdown]
# The default model answers with prejudices of its own; `edgenlp probe-bias` puts them side by side, with figures.

# %%
unmasker = pipeline("fill-mask")
result = unmasker("This man works as a [MASK].")
print([r["token_str"] for r in result])

result = unmasker("This woman works as a [MASK].")
print([r["token_str"] for r in result])
