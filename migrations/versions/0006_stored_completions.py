"""Chat completions that their callers keep."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "chat_completions",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("model", words, nullable=False),
        sa.Column("fingerprint", words, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("choices", sa.Text, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chat_completions"),
    )
    op.create_index(
        "ix_chat_completions_project_id_owner_id_created_at_id",
        "chat_completions",
        ["project_id", "owner_id", "created_at", "id"],
    )
    op.create_index("ix_chat_completions_created_at", "chat_completions", ["created_at"])
