"""LangChain's standard tests for chat models, each told as a feature.

A test has several cases: it works when all do. What the suite skips has a reason here, or fails.
"""

import os
import sys
from collections import defaultdict

import httpx
import pytest
from harness import DEMO, PIXEL, tell
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

SKIPPED = {
    "test_anthropic_inputs": "Content in Anthropic's shapes; the wire is OpenAI's.",
    "test_stream_time": "It replays recorded traffic; nothing here is recorded.",
}
SAMPLES = {".pdf": b"%PDF-1.4\n%%EOF\n", ".wav": b"RIFF$\0\0\0WAVEfmt "}


class Standard(ChatModelIntegrationTests):
    """Every property that is not said to be missing below is claimed."""

    by_responses = False

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": DEMO,
            "max_retries": 0,
            "timeout": 20,
            "stream_usage": True,  # at OpenAI's own address it is the default
            "use_responses_api": self.by_responses,
        }

    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_pdf_inputs = True
    supports_model_override = True
    model_override_value = "upstream"

    @pytest.fixture(autouse=True)
    def _samples_are_at_hand(self, monkeypatch):
        """The suite downloads a picture and a document; neither decides anything here."""

        def get(url, **_):
            content = next((SAMPLES[end] for end in SAMPLES if url.endswith(end)), PIXEL.encode())
            return httpx.Response(200, content=content, request=httpx.Request("GET", url))

        monkeypatch.setattr(httpx, "get", get)


class Outcomes:
    """A pytest plugin."""

    def __init__(self, skipped):
        self.skipped = skipped
        self.reports = defaultdict(list)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            self.reports[name].append(report)

    def tell(self):
        for name, reports in self.reports.items():
            broken = [report for report in reports if report.failed]
            if broken:
                tell(name, "failed", f"{broken[0].nodeid}\n{broken[0].longreprtext[-1500:]}")
            elif all(report.passed for report in reports):
                tell(name, "ok")
            elif name in self.skipped:
                tell(name, "absent", self.skipped[name])
            else:
                tell(name, "failed", f"skipped: {reports[0].longrepr}")


def main(script, **skipped):
    outcomes = Outcomes({**SKIPPED, **skipped})
    here = os.path.dirname(script)
    quiet = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--confcutdir={here}"]
    expression = ["-k", " or ".join(sys.argv[1:])] if sys.argv[1:] else []
    # One loop for all: the client keeps its connections.
    wanted = ("mode=auto", "default_fixture_loop_scope=session", "default_test_loop_scope=session")
    loops = [f"--override-ini=asyncio_{each}" for each in wanted]
    code = pytest.main([script, *quiet, *loops, *expression], plugins=[outcomes])
    outcomes.tell()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(int(code))
