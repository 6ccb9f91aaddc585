"""The record of counted instructions: what it holds, and what counts as a regression."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def instructions() -> ModuleType:
    path = ROOT / "benches" / "instructions.py"
    spec = importlib.util.spec_from_file_location("instructions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def test_the_record_is_of_every_workload(instructions: ModuleType) -> None:
    recorded = instructions.Record(**json.loads(instructions.RECORD.read_text()))
    source = (ROOT / "rust/workloads/src/main.rs").read_text()
    known = re.findall(r'^ +"(\w+)" => \w+\(\)\?,$', source, re.MULTILINE)
    assert list(recorded.instructions) == list(instructions.WORKLOADS) == known
    assert min(recorded.instructions.values()) > 10**7  # else nothing was done


def test_only_far_more_instructions_are_a_regression(instructions: ModuleType) -> None:
    recorded = instructions.Record(
        compiler="rustc", target="x", kernel_path="fma", instructions={"one": 1000, "other": 1000}
    )
    assert not instructions.regressions(recorded, recorded)
    few = replace(recorded, instructions={"one": 1290, "other": 500})
    assert not instructions.regressions(few, recorded)
    many = replace(recorded, instructions={"one": 1310, "other": 500, "new": 1})
    [first, second] = instructions.regressions(many, recorded)
    assert first.startswith("one: 1,310 instructions, 1.31 times")
    assert second == "new: not recorded"


def test_other_kernels_and_targets_are_not_compared(instructions: ModuleType) -> None:
    recorded = instructions.Record(
        compiler="rustc", target="x", kernel_path="fma", instructions={"one": 1000}
    )
    assert instructions.comparable(replace(recorded, compiler="newer"), recorded) is None
    assert "'sse2' ran" in instructions.comparable(replace(recorded, kernel_path="sse2"), recorded)
    assert "this is y" in instructions.comparable(replace(recorded, target="y"), recorded)
