"""`/metrics` as a scraper reads it."""

from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

GRAFANA = Path(__file__).parents[1] / "docs" / "grafana"


@dataclass(frozen=True)
class Scrape:
    samples: list[tuple[str, dict[str, str], float]]

    @classmethod
    def of(cls, text: str, *, open_metrics: bool = False) -> "Scrape":
        parse = (
            openmetrics.text_string_to_metric_families
            if open_metrics
            else text_string_to_metric_families
        )
        return cls(
            [
                (sample.name, dict(sample.labels), float(sample.value))
                for family in parse(text)
                for sample in family.samples
            ]
        )

    @property
    def names(self) -> set[str]:
        return {name for name, _, _ in self.samples}

    def values(self, name: str, label: str) -> set[str]:
        return {labels[label] for each, labels, _ in self.samples if each == name}

    def sum(self, name: str, **wanted: str) -> float:
        """Of the series that have these labels."""
        return sum(
            value
            for each, labels, value in self.samples
            if each == name and wanted.items() <= labels.items()
        )


async def scraped(http: httpx.AsyncClient) -> Scrape:
    response = await http.get("/metrics")
    assert response.status_code == 200, response.text
    return Scrape.of(response.text)
