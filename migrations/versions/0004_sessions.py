"""Conversations and their items."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("line_id", words),
        sa.Column("name", words),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("revision", words, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("summary", words, nullable=False),
        sa.Column("summarised", sa.BigInteger, nullable=False),
        sa.Column("holder", words),
        sa.Column("held_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint(
            "project_id",
            "owner_id",
            "line_id",
            "name",
            name="uq_sessions_project_id_owner_id_line_id_name",
        ),
    )
    op.create_table(
        "session_items",
        sa.Column("session_id", words, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("read_by_model", sa.Boolean, nullable=False),
        sa.Column("item", words, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "position", name="pk_session_items"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            ondelete="CASCADE",
            name="fk_session_items_session_id_sessions",
        ),
    )
    op.create_index("ix_session_items_session_id_id", "session_items", ["session_id", "id"])
