"""The official SDK."""

import openai_chat  # noqa: F401 - its features are kept
import openai_responses  # noqa: F401
from harness import main

main()
