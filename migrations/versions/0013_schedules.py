"""Runs at set times, and what became of each of them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("model", words, nullable=False),
        sa.Column("order", sa.Text, nullable=False),
        sa.Column("cron", words),
        sa.Column("timezone", words),
        sa.Column("every_s", sa.BigInteger),
        sa.Column("anchor", time),
        sa.Column("backfill", words, nullable=False),
        sa.Column("max_backfill", sa.BigInteger, nullable=False),
        sa.Column("overlap", words, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("deadline_s", sa.Double),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("paused_because", words),
        sa.Column("next_at", time),
        sa.Column("last_tick", time),
        sa.Column("last_run_id", words),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
    )
    op.create_index(
        "ix_schedules_project_id_owner_id_created_at_id",
        "schedules",
        ["project_id", "owner_id", "created_at", "id"],
    )
    # Paused ones are never due.
    enabled = sa.text("enabled")
    op.create_index(
        "ix_schedules_next_at",
        "schedules",
        ["next_at"],
        postgresql_where=enabled,
        sqlite_where=enabled,
    )
    op.create_table(
        "schedule_ticks",
        sa.Column("id", words, nullable=False),
        sa.Column("schedule_id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("decided_at", time, nullable=False),
        sa.Column("manual", sa.Boolean, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedule_ticks"),
    )
    op.create_index(
        "ix_schedule_ticks_schedule_id_at_id", "schedule_ticks", ["schedule_id", "at", "id"]
    )
    op.create_index("ix_schedule_ticks_decided_at", "schedule_ticks", ["decided_at"])
