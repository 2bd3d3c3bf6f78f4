"""Shared fixtures. Development data lives beside the checkout in ../shared and is optional."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data folder ../shared; a test that asks for it is skipped where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared folder beside this checkout (golden files and corpora)")
    return folder


@pytest.fixture(scope="session")
def default_model_folder() -> Path:
    return ROOT / "weights" / "default"
