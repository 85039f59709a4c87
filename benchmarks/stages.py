"""Where the ingest process says its time goes."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

METRIC = "elis_ingest_stage_seconds"


def read_stages(hec_url: str) -> dict[str, float]:
    """Returns the seconds of each stage since the process started."""
    content = httpx.get(f"{hec_url}/metrics", timeout=10.0, trust_env=False).raise_for_status().text
    families = {family.name: family for family in text_string_to_metric_families(content)}
    return {sample.labels["stage"]: sample.value for sample in families[METRIC].samples} if METRIC in families else {}
