"""API keys, and an index for the runs of one owner."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", words, nullable=False),
        sa.Column("prefix", words, nullable=False),
        sa.Column("digest", words, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("created_by", words, nullable=False),
        sa.Column("expires_at", time),
        sa.Column("revoked_at", time),
        sa.Column("last_used_at", time),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("prefix", name="uq_api_keys_prefix"),
    )
    op.create_index(
        "ix_api_keys_project_id_created_at_id", "api_keys", ["project_id", "created_at", "id"]
    )
    op.create_index(
        "ix_runs_project_id_owner_id_started_at_id",
        "runs",
        ["project_id", "owner_id", "started_at", "id"],
    )
