#!/bin/sh
# What `make run` shows second: two systems kept in step by their APIs. `servers.py` serves them meanwhile.
set -eu
PATH="$(cd ../../.venv/bin && pwd):$PATH"
. ../words.sh

say "What is new in the shop goes to the ERP by their APIs; the ERP's own numbers come back to the shop."
show run orders-to-erp


say "The mail that the person in charge has got:"
cat .data/mail/*.txt

say "Again: there is nothing new."
show run orders-to-erp

say "The next day in the shop: three new orders, two that have changed. Just these five go."
python systems.py later
show run orders-to-erp

say "What happened to order 69659? It went, was changed, and went again under the same number."
show trace WEB-069659
