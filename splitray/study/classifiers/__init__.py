"""Classifiers of a topic. Adding one is adding one class under `@register_classifier`."""

from splitray.study.classifiers import embedding, fasttext, pretrained
from splitray.study.classifiers.classifier import TopicClassifier, find_classifier, load_classifier, register_classifier

__all__ = [
    "TopicClassifier",
    "embedding",
    "fasttext",
    "find_classifier",
    "load_classifier",
    "pretrained",
    "register_classifier",
]
