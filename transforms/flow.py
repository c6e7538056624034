"""The node type `flow`: another flow of the project, used as a node."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pipelines.nested import Nested
from pipelines.node import Example
from pipelines.sql.expressions import Expression

PRICES = """flow: prices
parameters:
  reduction: {type: "decimal(4, 2)", default: 0}
nodes:
  start: {type: start, columns: {item: VARCHAR, quantity: INTEGER}}
  priced: {type: lookup, from: start, table: tables/prices.csv, on: item, take: [price], missing: reject}
  total: {type: map, from: priced, keep: all, fields: {total: "round(quantity * price * (1 - $reduction), 2)"}}
  end: {type: end, from: total, columns: {total: DOUBLE}}
tests:
  - name: a price is taken times the quantity
    given: {start: [{item: pen, quantity: 3}]}
    then: {end: [{item: pen, total: 4.5}]}
"""
SIZES = """flow: sizes
nodes:
  start: {type: start, columns: {total: DOUBLE}}
  size: {type: decide, from: start, when: {large: total > 100}, otherwise: small}
  large: {type: end, from: size.large}
  small: {type: end, from: size.small}
"""
TABLE = "item,price\npen,1.50\nink,4.00\n"


class Subflow(Nested):
    """Passes records through another flow of the same project, as if its nodes stood here.

    The flow's `start` declares with `columns` what must come in, and its nodes of type `end` are the ports: one end is
    the port `out`, several are called as they are. Columns that come in besides those declared go along. What is
    rejected inside is rejected by the node inside, and leaves by `rejected`. A flow whose start declares nothing takes
    no records; it begins when this node's turn comes.

    Its nodes are called `NODE/NAME` in previews, logs, rejects and replays. It may be used several times, each time with
    other `parameters`. `in`, `snapshot`, `retry` and `rejects` of this node hold for the nodes inside that say nothing.
    """

    flow: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", examples=["prices"])
    """The other flow: `flows/NAME.yaml`."""
    inputs: dict[str, Expression] = Field(default_factory=dict, examples=[{"item": "product_code"}])
    """Columns that are made of what comes in before it goes into the flow, with the expressions they are computed by."""
    parameters: dict[str, Any] = Field(default_factory=dict, examples=[{"reduction": 0.1, "country": "$country"}])
    """Values for the flow's parameters; `$name` is a parameter or variable of this flow."""

    category = "flow"
    examples = (
        Example(
            says="Prices are looked up as another flow does it; an order of something without a price is set aside.",
            config={"flow": "prices", "parameters": {"reduction": 0.1}},
            records=[{"id": 1, "item": "pen", "quantity": 3}, {"id": 2, "item": "cap", "quantity": 1}],
            columns={"quantity": "INTEGER"},
            files={"flows/prices.yaml": PRICES, "tables/prices.csv": TABLE},
            gives={
                "out": [{"id": 1, "item": "pen", "quantity": 3, "price": 1.5, "total": 4.05}],
                "rejected": [{"id": 2, "item": "cap", "reject_code": "not_found"}],
            },
        ),
        Example(
            says="A flow with two ends, for records that call the column otherwise.",
            config={"flow": "sizes", "inputs": {"total": "amount::DOUBLE"}},
            records=[{"id": 1, "amount": 90}, {"id": 2, "amount": 180}],
            files={"flows/sizes.yaml": SIZES},
            gives={
                "small": [{"id": 1, "amount": 90, "total": 90.0}],
                "large": [{"id": 2, "amount": 180, "total": 180.0}],
            },
        ),
    )

    def body(self) -> str:
        return self.flow

    def given(self) -> Mapping[str, Any]:
        return self.parameters

    def made(self) -> Mapping[str, str]:
        return self.inputs
