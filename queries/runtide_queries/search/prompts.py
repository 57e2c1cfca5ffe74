"""Prompts lie among the registered models, marked by a tag; searches hide them unless their filter asks for them.

MLflow's rule (``_is_querying_prompt`` of its registry store), said of a tree: a filter asks for prompts when it compares that
tag with ``= 'true'`` or ``!= 'false'``. Other models lack the tag, and ``!= 'true'`` and ``= 'false'`` are true of them.
"""

from runtide_queries.search.grammar import Clause, Either, Every, Expression, Negation, clauses_of

PROMPT_TAG = "mlflow.prompt.is_prompt"
_TAGS = ("tag", "tags")


def asks_for_prompts(tree: Expression | None) -> bool:
    """Say whether prompts are wanted."""
    return any(_is_mark(clause) and _said(clause) in {("=", "true"), ("!=", "false")} for clause in clauses_of(tree))


def without_marks(tree: Expression) -> Expression:
    """Return the tree with what is true of models without the tag said of its absence."""
    match tree:
        case Clause():
            absent = _is_mark(tree) and _said(tree) in {("=", "false"), ("!=", "true")}
            return Negation(Clause(tree.field, "=", "true")) if absent else tree
        case Negation():
            return Negation(without_marks(tree.part))
        case Every():
            return Every(tuple(map(without_marks, tree.parts)))
        case Either():
            return Either(tuple(map(without_marks, tree.parts)))


def _is_mark(clause: Clause) -> bool:
    return clause.field.entity.lower() in _TAGS and clause.field.key == PROMPT_TAG


def _said(clause: Clause) -> tuple[str, str]:
    return clause.comparator, clause.value.lower() if isinstance(clause.value, str) else ""
