"""Holds one case against a server."""

import re

from tests.conformance.mlflow_rest.case import Case, Wanted
from tests.conformance.mlflow_rest.scene import Scene
from tests.conformance.mlflow_rest.server import Answer, Server
from tests.conformance.mlflow_rest.shapes import mismatches


def check(server: Server, case: Case, *, ours: bool = False) -> None:
    """Perform a case; ``ours``: what is wanted is our own answer, where it is another one than MLflow's.

    Raises:
        AssertionError: with the call, the answer, and what is wrong with it.
    """
    scene = Scene(server)
    wanted = case.ours.wanted if ours and case.ours else case.wanted
    if case.setting:
        scene.enter(case.setting)
    for needed in case.before:
        scene.done(needed)
    answer = scene.perform(case.call)
    wrong = list(_wrong(scene, wanted, answer))
    assert not wrong, (
        f"{case.call.verb} {scene.filled(case.call.path)} {str(scene.filled(case.call.payload))[:500]}\n"
        f"answered {answer.status}: {' '.join(answer.text.split())[:2000]}\n" + "\n".join(wrong)
    )
    for needed in case.then:
        scene.done(needed)


def _wrong(scene: Scene, wanted: Wanted, answer: Answer) -> list[str]:
    wrong = [] if answer.status == wanted.status else [f"the status is {answer.status}, not {wanted.status}"]
    for name, pattern in wanted.headers.items():
        if not re.search(pattern, answer.headers.get(name, "")):
            wrong.append(f"the header {name} is {answer.headers.get(name)!r}, not like {pattern!r}")
    if wanted.text is not None:
        return wrong + ([] if answer.text == wanted.text else [f"the body is not {wanted.text!r}"])
    if not wanted.error:
        return wrong + list(mismatches(scene.filled(wanted.answer), answer.json))
    told = answer.json if isinstance(answer.json, dict) else {}
    if told.get("error_code") != wanted.error:
        wrong.append(f"the error code is {told.get('error_code')!r}, not {wanted.error!r}")
    if not re.search(scene.regex(wanted.message), str(told.get("message", "")), re.DOTALL):
        wrong.append(f"the message is not like {scene.regex(wanted.message)!r}")
    return wrong
