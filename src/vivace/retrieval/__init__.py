"""Finding pictures: indexes of embeddings, exact and approximate."""

from vivace.retrieval.index import ExactIndex as ExactIndex
from vivace.retrieval.index import Found as Found
from vivace.retrieval.index import Index as Index
from vivace.retrieval.index import InvertedFileIndex as InvertedFileIndex
from vivace.retrieval.index import load_index as load_index
