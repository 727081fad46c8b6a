"""Providers that projects register, and their models."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "providers",
        sa.Column("project_id", words, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("type", words, nullable=False),
        sa.Column("base_url", words),
        sa.Column("key_variable", words),
        sa.Column("key_sealed", words),
        sa.Column("key_mark", words),
        sa.Column("default_model", words),
        sa.Column("default_embedding_model", words),
        sa.Column("formats", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("tuning", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_providers"),
    )
    op.create_table(
        "provider_models",
        sa.Column("project_id", words, nullable=False),
        sa.Column("provider_id", words, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("upstream_name", words, nullable=False),
        sa.Column("display_name", words, nullable=False),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("fallbacks", sa.Text, nullable=False),
        sa.Column("routing", words, nullable=False),
        sa.Column("weight", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "provider_id", "name", name="pk_provider_models"),
    )
