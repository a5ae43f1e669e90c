#!/usr/bin/env bash
# Reads metrics as text from standard input and checks them with the parser of prometheus_client:
#   psql -Atc 'SELECT allsource.es_metrics_prometheus()' | scripts/prometheus.sh
# Prints the number of families. Fails where the text cannot be parsed, where a family has no type or
# no help or comes in pieces, where a sample comes twice, and where there is nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PROMETHEUS_CLIENT=0.26.0
VENV=$(cache_dir)/prometheus-client-$PROMETHEUS_CLIENT

PROGRAM='
import sys
from prometheus_client.parser import text_string_to_metric_families


def fail(reason):
    sys.exit(f"allsource: {reason}")


try:
    families = list(text_string_to_metric_families(sys.stdin.read()))
except ValueError as error:
    fail(f"the text cannot be parsed: {error}")

seen_families, seen_samples = set(), set()
for family in families:
    if family.type in ("unknown", "untyped"):
        fail(f"{family.name} has no type")
    if not family.documentation:
        fail(f"{family.name} has no help")
    if not family.samples:
        fail(f"{family.name} has no samples")
    if family.name in seen_families:
        fail(f"{family.name} comes in pieces")
    seen_families.add(family.name)
    for sample in family.samples:
        identity = (sample.name, tuple(sorted(sample.labels.items())))
        if identity in seen_samples:
            fail(f"{sample.name} {sample.labels} comes twice")
        seen_samples.add(identity)
if not families:
    fail("there are no metrics")
print(len(families))
'

# Standard input is the metrics: nothing else may read it.
installed() { "$VENV/bin/python" -c 'import prometheus_client' </dev/null 2>/dev/null; }

install_prometheus_client() {
    say "installing prometheus_client $PROMETHEUS_CLIENT"
    python3 -m venv "$VENV" </dev/null || die "python3 could not make $VENV: run 'scripts/deps.sh test'"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check \
        "prometheus_client==$PROMETHEUS_CLIENT" </dev/null ||
        die "pip could not install prometheus_client $PROMETHEUS_CLIENT"
}

installed || install_prometheus_client >&2
"$VENV/bin/python" -c "$PROGRAM"
