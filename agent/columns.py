"""What columns the sources of a flow had in the last run: known to the check, kept when a run is done."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

import pyarrow as pa

from pipelines.check import Checked
from pipelines.flow import Flow
from pipelines.nested import Nested
from pipelines.node import Get
from repository.project import Project


def seen(project: Project, flow: Flow, environment: str) -> Mapping[str, pa.Schema]:
    """Per get the columns that the last run saw; nothing where no get compares them."""
    if not compares(flow) or not project.home.exists():
        return {}
    from repository.catalogue import Catalogue  # its library takes as long to load as a check

    catalogue = Catalogue(project.catalogue_url)
    try:
        return {name: _read(text) for name, text in catalogue.columns_seen(flow.name, environment).items()}
    finally:
        catalogue.close()


def compares(flow: Flow) -> bool:
    """Whether a get of the flow, or perhaps of one that it uses, compares its columns with those of the last run."""
    configs = [spec.config for spec in flow.nodes.values()]
    return any(isinstance(config, Nested) or (isinstance(config, Get) and config.schema_change) for config in configs)


def written(flow: Flow, checked: Checked) -> dict[str, str]:
    """Per get of the flow the columns that it gives, as the catalogue keeps them."""
    gets = [name for name, spec in flow.nodes.items() if isinstance(spec.config, Get)]
    found = {name: checked.outputs.get(name, {}).get("out") for name in gets}
    return {name: _text(schema) for name, schema in found.items() if schema is not None}


def notes(checked: Checked) -> Iterator[str]:
    """What a run's report says of sources that have changed."""
    for name, change in checked.changes.items():
        yield f"{name}: {'; '.join(change.told)}"


def _text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def _read(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
