"""Creates the roll-ups and their dimensions, findings and incidents."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "correlate_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "done_block",
        sa.Column("block_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_done_block")),
        schema="correlate",
    )
    op.create_index(op.f("ix_done_block_done_at"), "done_block", ["done_at"], unique=False, schema="correlate")
    op.create_table(
        "edge",
        sa.Column("caller_system", sa.Text(), nullable=False),
        sa.Column("caller_service", sa.Text(), nullable=False),
        sa.Column("callee_system", sa.Text(), nullable=False),
        sa.Column("callee_service", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("caller_system", "caller_service", "callee_system", "callee_service", "origin", name=op.f("pk_edge")),
        schema="correlate",
    )
    op.create_table(
        "evidence_event",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("timestamp_ns", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("severity_number", sa.SmallInteger(), nullable=False),
        sa.Column("severity_text", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_evidence_event")),
        schema="correlate",
    )
    op.create_table(
        "feed_position",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_position")),
        schema="correlate",
    )
    op.create_table(
        "fingerprint",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("fingerprint", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("template", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fingerprint")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_fingerprint_fingerprint")),
        schema="correlate",
    )
    op.create_index(op.f("ix_fingerprint_template"), "fingerprint", ["template"], unique=False, schema="correlate")
    op.create_table(
        "fingerprint_total",
        sa.Column("fingerprint_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("first_minute", sa.Integer(), nullable=False),
        sa.Column("last_minute", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint_id", name=op.f("pk_fingerprint_total")),
        schema="correlate",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "host",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host")),
        sa.UniqueConstraint("name", name=op.f("uq_host_name")),
        schema="correlate",
    )
    op.create_table(
        "incident",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("systems", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("services", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("finding_count", sa.Integer(), nullable=False),
        sa.Column("merged_into", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["merged_into"], ["correlate.incident.id"], name=op.f("fk_incident_merged_into_incident")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
        sa.UniqueConstraint("number", name=op.f("uq_incident_number")),
        schema="correlate",
    )
    op.create_index(op.f("ix_incident_started_at_id"), "incident", ["started_at", "id"], unique=False, schema="correlate")
    op.create_index(op.f("ix_incident_state"), "incident", ["state"], unique=False, schema="correlate")
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
        schema="correlate",
    )
    op.create_table(
        "roll_up",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("series_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("first_event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "series_id", name=op.f("pk_roll_up")),
        schema="correlate",
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Integer(), nullable=False),
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("severity_number", sa.SmallInteger(), nullable=False),
        sa.Column("fingerprint_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "source_id",
            "service_id",
            "host_id",
            "severity_number",
            "fingerprint_id",
            name=op.f("uq_series_source_id_service_id_host_id_severity_number_fingerprint_id"),
        ),
        schema="correlate",
    )
    op.create_table(
        "service",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service")),
        sa.UniqueConstraint("name", name=op.f("uq_service_name")),
        schema="correlate",
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("name", name=op.f("uq_source_name")),
        schema="correlate",
    )
    op.create_table(
        "source_clock",
        sa.Column("source_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("newest_minute", sa.Integer(), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_source_clock")),
        schema="correlate",
    )
    op.create_table(
        "template",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template")),
        sa.UniqueConstraint("number", name=op.f("uq_template_number")),
        schema="correlate",
    )
    op.create_table(
        "watermark",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("judged_minute", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watermark")),
        schema="correlate",
    )
    op.create_table(
        "cause",
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("onset", sa.Double(), nullable=False),
        sa.Column("upstream", sa.Double(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evidence_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("finding_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["correlate.incident.id"], name=op.f("fk_cause_incident_id_incident"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("incident_id", "rank", name=op.f("pk_cause")),
        schema="correlate",
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("severity_number", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expected", sa.Double(), nullable=False),
        sa.Column("observed", sa.Double(), nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("evidence_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("memory", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["correlate.incident.id"], name=op.f("fk_finding_incident_id_incident")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
        schema="correlate",
    )
    op.create_index(op.f("ix_finding_ended_at"), "finding", ["ended_at"], unique=False, schema="correlate")
    op.create_index(op.f("ix_finding_incident_id"), "finding", ["incident_id"], unique=False, schema="correlate")
    op.create_index(op.f("ix_finding_started_at_id"), "finding", ["started_at", "id"], unique=False, schema="correlate")
    op.create_table(
        "timeline_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("event_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["correlate.incident.id"], name=op.f("fk_timeline_entry_incident_id_incident"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_timeline_entry")),
        schema="correlate",
    )
    op.create_index(op.f("ix_timeline_entry_incident_id_at"), "timeline_entry", ["incident_id", "at"], unique=False, schema="correlate")
    op.create_table(
        "link",
        sa.Column("from_finding_id", sa.Uuid(), nullable=False),
        sa.Column("to_finding_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("evidence_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.ForeignKeyConstraint(["from_finding_id"], ["correlate.finding.id"], name=op.f("fk_link_from_finding_id_finding"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["to_finding_id"], ["correlate.finding.id"], name=op.f("fk_link_to_finding_id_finding"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("from_finding_id", "to_finding_id", "rule", name=op.f("pk_link")),
        schema="correlate",
    )
    op.create_index(op.f("ix_link_to_finding_id"), "link", ["to_finding_id"], unique=False, schema="correlate")
    op.execute("INSERT INTO correlate.feed_position (id, cursor, as_of) VALUES (1, '', 'epoch')")
    op.execute("INSERT INTO correlate.watermark (id, judged_minute) VALUES (1, NULL)")
