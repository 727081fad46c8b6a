"""Who calls, by credentials that others issue."""

from runtime.domain.services.identity import TokenVerifier
from runtime.infrastructure.settings import Settings


def token_verifier(settings: Settings) -> TokenVerifier | None:
    """None where no JWTs are taken; then their library is not loaded either."""
    if not (settings.jwt_secret or settings.jwt_jwks_url or settings.jwt_jwks_file):
        return None
    from runtime.infrastructure.identity.jwks import KeySet, from_file, from_url
    from runtime.infrastructure.identity.jwt import ClaimNames, JwtVerifier, Keys, SharedSecret

    keys: Keys
    if settings.jwt_secret:
        keys = SharedSecret(settings.jwt_secret.get_secret_value().encode())
    elif settings.jwt_jwks_file:
        keys = KeySet(from_file(settings.jwt_jwks_file))
    else:
        keys = KeySet(from_url(settings.jwt_jwks_url))
    return JwtVerifier(
        keys,
        settings.pinned_algorithms,
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_leeway_s,
        ClaimNames(settings.jwt_user_claim, settings.jwt_project_claim, settings.jwt_roles_claim),
    )
