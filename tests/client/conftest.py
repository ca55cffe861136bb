"""A temporary home folder, and an API server that follows the contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers.truetick_api import ContractApi, contract_api


@pytest.fixture
def home(folder: Path) -> Path:
    return folder


@pytest.fixture
def api() -> Iterator[ContractApi]:
    with contract_api() as api:
        yield api
