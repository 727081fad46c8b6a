"""Agent lines, agents, their audit trail, and the records of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_agent_lines()
    _create_agents()
    _create_audit()
    _create_runs()


def _create_agent_lines() -> None:
    op.create_table(
        "agent_lines",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("slug", words, nullable=False),
        sa.Column("published_id", words),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_lines"),
        sa.UniqueConstraint("project_id", "slug", name="uq_agent_lines_project_id_slug"),
    )


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", words, nullable=False),
        sa.Column("line_id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("author_id", words, nullable=False),
        sa.Column("slug", words, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("name_folded", words, nullable=False),
        sa.Column("description", words, nullable=False),
        sa.Column("avatar_url", words),
        sa.Column("agent_type", words, nullable=False),
        sa.Column("template_id", words, nullable=False),
        sa.Column("template_version", words, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("model", words),
        sa.Column("version_type", words, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("approved_hash", words),
        sa.Column("reviewer_id", words),
        sa.Column("rejection", words),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("published_at", time),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
        sa.ForeignKeyConstraint(["line_id"], ["agent_lines.id"], name="fk_agents_line_id"),
        sa.UniqueConstraint("line_id", "number", name="uq_agents_line_id_number"),
    )
    _index("agents", "project_id", "slug", "number")
    _index("agents", "project_id", "created_at", "id")


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", words, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("actor_id", words, nullable=False),
        sa.Column("action", words, nullable=False),
        sa.Column("agent_id", words, nullable=False),
        sa.Column("line_id", words, nullable=False),
        sa.Column("before_hash", words),
        sa.Column("after_hash", words),
        sa.Column("before_status", words),
        sa.Column("after_status", words),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    _index("audit", "project_id", "line_id", "at", "id")


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("agent_id", words, nullable=False),
        sa.Column("line_id", words, nullable=False),
        sa.Column("session_id", words),
        sa.Column("model", words, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("finish_reason", words),
        sa.Column("error_code", words),
        sa.Column("started_at", time, nullable=False),
        sa.Column("ended_at", time, nullable=False),
        sa.Column("first_token_ms", sa.Double),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("usage_estimated", sa.Boolean, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("tools", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    _index("runs", "project_id", "started_at", "id")
    _index("runs", "project_id", "agent_id", "started_at", "id")
    _index("runs", "project_id", "status", "started_at", "id")
    _index("runs", "project_id", "session_id", "started_at", "id")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
