#!/bin/sh
# What `make run` shows: two flows, and what can be done in the morning with what the night has refused.
set -eu
PATH="$(cd ../../.venv/bin && pwd):$PATH"

. ../words.sh

say "By day: the shop's orders go to the ERP, large ones to a folder for review, all good ones to Parquet."
show run web-orders
show query "$(cat rejected.sql)"

say "By night: the ERP's orders are joined with the customers and summed up for each."
show run customers
night=$(latest)

say "The limit of 50 discs was meant for one order, not for all of a customer's: just the refused ones go again, with another."
show replay "$night" --set most_discs=1000

say "The next night has the new limit from the start. What is different from the night before? Those customers, and nothing else."
show run customers --set most_discs=1000
show runs diff "$night" last --limit 3

say "One of them: refused, taken by the replay, taken the night after."
show trace 00033 --limit 3
