"""Types of provider that speak OpenAI's wire and differ in where and how they are reached."""

from urllib.parse import quote

from yarl import URL

from runtime.infrastructure.egress import EgressClient
from runtime.infrastructure.providers.base import Connection, text_option
from runtime.infrastructure.providers.openai import OpenAIProvider
from runtime.infrastructure.providers.wire import KeyHeader, address


class AzureOpenAIProvider(OpenAIProvider):
    """Azure OpenAI: `https://RESOURCE.openai.azure.com`, where a model is a deployment.

    With the option `api_version` the dated API, whose paths name the deployment; without it the
    one at `/openai/v1`, which is OpenAI's own. A base URL that ends in `/v1` is the latter, with
    `api_version` passed on.
    """

    type = "azure_openai"
    default_base_url = None
    key_header = KeyHeader("api-key", "")
    option_names = frozenset({"api_version"})

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        super().__init__(egress, connection)
        version = text_option(connection, "api_version")
        root = self._base_url.rstrip("/")
        self._by_deployment = version is not None and not root.endswith("/v1")
        if not root.endswith("/v1"):
            root = root.removesuffix("/openai") + ("/openai" if version else "/openai/v1")
        self._root = address(root)
        self._query = {"api-version": version} if version else {}
        self._chat = self._at("chat/completions", "")
        self._embeddings = self._at("embeddings", "")

    def _chat_url(self, model: str) -> URL:
        return self._at("chat/completions", model) if self._by_deployment else self._chat

    def _embeddings_url(self, model: str) -> URL:
        return self._at("embeddings", model) if self._by_deployment else self._embeddings

    def _at(self, path: str, model: str) -> URL:
        if self._by_deployment:
            # A model's name is the caller's text: no dot or slash of it may change the path.
            path = f"deployments/{quote(model, safe='').replace('.', '%2E')}/{path}"
        url = URL(f"{self._root}/{path}", encoded=True)
        return url.with_query(self._query) if self._query else url


class HuggingFaceProvider(OpenAIProvider):
    """Hugging Face's router to inference providers, an Inference Endpoint, or TGI."""

    type = "huggingface"
    default_base_url = "https://router.huggingface.co/v1"
    usual_model = "openai/gpt-oss-120b"
    # What a routed model keeps to depends on who serves it.
    usual_formats = frozenset()
    usual_embedding_model = "BAAI/bge-m3"
    known_embedding_models = ()


class LocalProvider(OpenAIProvider):
    """Ollama, vLLM, llama.cpp, LM Studio: a server of your own, usually without a key."""

    type = "local"
    default_base_url = "http://127.0.0.1:11434/v1"
    needs_key = False
    usual_model = "llama3.2"
    usual_formats = frozenset({"json_object"})
    usual_embedding_model = "nomic-embed-text"
    known_embedding_models = ()
