"""The example of docs/files.md runs as it is written there, against servers of the tests' own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.adapters.file.store_room import on_s3, on_sftp
from tests.agent.projects import project, run_here
from tests.parts import s3 as s3_parts
from tests.parts import sftp as sftp_parts


def test_the_page_s_flow_takes_a_partner_s_orders_to_the_lake_once(
    s3: s3_parts.Server, sftp: sftp_parts.Server, tmp_path: Path, repository_root: Path
) -> None:
    text = (repository_root / "docs" / "files.md").read_text()
    environment, flow = (block.partition("\n")[2] for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    lake, partner = on_s3(s3, tmp_path), on_sftp(sftp, tmp_path)
    told = yaml.safe_load(environment)["connections"]
    settings = {"environment": "local", "connections": {"lake": lake.settings, "partner": partner.settings}}
    made = project(tmp_path, flow, {"environments/local.yaml": json.dumps(settings)})
    partner.put("orders-1.csv", b"id,country\n1,DE\n2,FR\n")
    partner.put("letter.csv", b"id\n3\n")

    first, second = run_here(made, "partner-orders"), run_here(made, "partner-orders")

    assert {name: each["url"].partition(":")[0] for name, each in told.items()} == {"lake": "s3", "partner": "sftp"}
    assert told["lake"].keys() <= lake.settings.keys()
    assert (first["status"], first["nodes"]["kept"]["delivered"]) == ("done", 2)
    assert (second["status"], second["nodes"]["kept"]["delivered"]) == ("done", 0)
    places = {name.rpartition("/")[0] for name in lake.files()}
    assert places == {"orders/country=DE", "orders/country=FR"}
