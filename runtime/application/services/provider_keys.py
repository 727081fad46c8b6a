import json
from dataclasses import dataclass

from runtime.domain.entities.providers import Provider
from runtime.domain.services.secrets import SecretVault
from runtime.domain.value_objects.ids import ProjectId, ProviderId
from runtime.domain.value_objects.secrets import SealedSecret


def key_place(
    project: ProjectId, id: ProviderId, type: str, base_url: str | None, mark: str
) -> str:
    """A key opens for the address that it was given for, whatever becomes of the row."""
    return json.dumps(["providers", project, id, type, base_url, mark])


@dataclass(frozen=True)
class ProviderKeys:
    vault: SecretVault

    def seal(self, provider: Provider, text: str) -> SealedSecret:
        mark = self.vault.mark(text, provider.project_id)
        return SealedSecret(self.vault.seal(text, _place(provider, mark)), mark)

    def open(self, provider: Provider, key: SealedSecret) -> str:
        """Raises SecretUnreadable."""
        return self.vault.open(key.sealed, _place(provider, key.mark))


def _place(provider: Provider, mark: str) -> str:
    return key_place(provider.project_id, provider.id, provider.type, provider.base_url, mark)
