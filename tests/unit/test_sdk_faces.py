"""The three faces of the SDK - functions, Run, AsyncRun - offer the same, under the same names, documented."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import runtide
from runtide.tracking import fluent, fluent_registry
from runtide.tracking.asynchronous import AsyncRun
from runtide.tracking.run import Run

OF_THE_OBJECTS_ONLY = {"conclude", "on_delivery", "end", "close", "became_child"}
OF_THE_MODULE_ONLY = {"init", "start_run", "attach", "active_run", "end_run"}


def methods(face: type[Any]) -> dict[str, Callable[..., Any]]:
    found = inspect.getmembers(face, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


def functions() -> dict[str, Callable[..., Any]]:
    return {
        name: function
        for module in (fluent, fluent_registry)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def shape(function: Callable[..., Any]) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters if one.name != "self"]


def test_run_and_async_run_offer_the_same() -> None:
    assert set(methods(Run)) == set(methods(AsyncRun))


@pytest.mark.parametrize("name", sorted(methods(Run)))
def test_a_method_takes_the_same_on_both(name: str) -> None:
    assert shape(methods(Run)[name]) == shape(methods(AsyncRun)[name])
    assert methods(Run)[name].__doc__
    assert methods(AsyncRun)[name].__doc__


def test_functions_are_the_methods_of_the_active_run() -> None:
    assert set(functions()) - OF_THE_MODULE_ONLY == set(methods(Run)) - OF_THE_OBJECTS_ONLY
    assert set(functions()) <= set(runtide.__all__)


@pytest.mark.parametrize("name", sorted(set(functions()) - OF_THE_MODULE_ONLY))
def test_a_function_takes_what_the_method_takes(name: str) -> None:
    assert shape(functions()[name]) == shape(methods(Run)[name])


def test_what_waits_is_a_coroutine_and_what_does_not_is_none() -> None:
    waiting = {name for name, method in methods(AsyncRun).items() if inspect.iscoroutinefunction(method)}
    assert waiting == {
        "deploy", "end", "flush", "log_artifact", "log_artifacts", "log_code", "log_dict", "log_environment", "log_figure",
        "log_image", "log_model", "log_table", "log_text", "register_model", "set_alias",
    }  # fmt: skip


def test_async_run_takes_what_start_run_does_but_for_the_active_run() -> None:
    of_start_run = {name for name, _, _ in shape(fluent.start_run)}
    assert {name for name, _, _ in shape(AsyncRun.__init__)} == of_start_run - {"nested"}
