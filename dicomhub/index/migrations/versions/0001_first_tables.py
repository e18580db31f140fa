"""The first tables."""

from __future__ import annotations

import time
import uuid

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0001"
down_revision = None
branch_labels = ("index",)
depends_on = None

Name = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "archive_info",
        sa.Column("id", Number, autoincrement=False, nullable=False),
        sa.Column("archive_uuid", Name, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("format_version", Number, nullable=False),
        sa.Column("swept_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "blob",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("size", Number, nullable=False),
        sa.Column("encoding", Name, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("blob_created_at", "blob", ["created_at"], unique=False)
    op.create_table(
        "change",
        sa.Column("sequence", Number, autoincrement=False, nullable=False),
        sa.Column("action", Name, nullable=False),
        sa.Column("study_instance_uid", Name, nullable=False),
        sa.Column("series_instance_uid", Name, nullable=False),
        sa.Column("sop_instance_uid", Name, nullable=False),
        sa.Column("sop_class_uid", Name, nullable=False),
        sa.Column("version_id", Number, nullable=True),
        sa.Column("previous_version_id", Number, nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("via", Name, nullable=False),
        sa.Column("peer_address", Name, nullable=False),
        sa.Column("peer_ae_title", Name, nullable=False),
        sa.Column("called_ae_title", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("change_study_instance_uid", "change", ["study_instance_uid", "sequence"], unique=False)
    op.create_table(
        "plugin_cursor",
        sa.Column("plugin", Name, nullable=False),
        sa.Column("sequence", Number, nullable=False),
        sa.Column("owner", Name, nullable=True),
        sa.Column("leased_until", sa.Double(), nullable=False),
        sa.Column("failures", Number, nullable=False),
        sa.Column("last_error", Name, nullable=False),
        sa.Column("retry_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("plugin"),
    )
    op.create_table(
        "sequence_counter",
        sa.Column("id", Number, autoincrement=False, nullable=False),
        sa.Column("value", Number, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "series",
        sa.Column("study_instance_uid", Name, nullable=False),
        sa.Column("series_instance_uid", Name, nullable=False),
        sa.Column("modality", Name, nullable=True),
        sa.Column("series_number", Number, nullable=True),
        sa.Column("series_date", Name, nullable=True),
        sa.Column("series_time", Name, nullable=True),
        sa.Column("performed_procedure_step_start_date", Name, nullable=True),
        sa.Column("performed_procedure_step_start_time", Name, nullable=True),
        sa.Column("series_description", Name, nullable=True),
        sa.Column("body_part_examined", Name, nullable=True),
        sa.Column("laterality", Name, nullable=True),
        sa.Column("protocol_name", Name, nullable=True),
        sa.Column("station_name", Name, nullable=True),
        sa.Column("institution_name", Name, nullable=True),
        sa.Column("scheduled_procedure_step_id", Name, nullable=True),
        sa.Column("requested_procedure_id", Name, nullable=True),
        sa.Column("number_of_series_related_instances", Number, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_change", Number, nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid"),
    )
    op.create_index("series_modality", "series", ["modality"], unique=False)
    op.create_index(
        "series_performed_procedure_step_start_date", "series", ["performed_procedure_step_start_date"], unique=False
    )
    op.create_index("series_series_instance_uid", "series", ["series_instance_uid"], unique=False)
    op.create_table(
        "study",
        sa.Column("study_instance_uid", Name, nullable=False),
        sa.Column("patient_id", Name, nullable=True),
        sa.Column("issuer_of_patient_id", Name, nullable=True),
        sa.Column("patient_name_alphabetic", Name, nullable=True),
        sa.Column("patient_name_ideographic", Name, nullable=True),
        sa.Column("patient_name_phonetic", Name, nullable=True),
        sa.Column("patient_birth_date", Name, nullable=True),
        sa.Column("patient_birth_time", Name, nullable=True),
        sa.Column("patient_sex", Name, nullable=True),
        sa.Column("study_date", Name, nullable=True),
        sa.Column("study_time", Name, nullable=True),
        sa.Column("accession_number", Name, nullable=True),
        sa.Column("study_id", Name, nullable=True),
        sa.Column("study_description", Name, nullable=True),
        sa.Column("referring_physician_name_alphabetic", Name, nullable=True),
        sa.Column("referring_physician_name_ideographic", Name, nullable=True),
        sa.Column("referring_physician_name_phonetic", Name, nullable=True),
        sa.Column("modalities_in_study", Name, nullable=True),
        sa.Column("sop_classes_in_study", Name, nullable=True),
        sa.Column("number_of_study_related_series", Number, nullable=False),
        sa.Column("number_of_study_related_instances", Number, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_change", Number, nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    op.create_index("study_accession_number", "study", ["accession_number"], unique=False)
    op.create_index("study_last_change", "study", ["last_change"], unique=False)
    op.create_index("study_patient_id", "study", ["patient_id"], unique=False)
    op.create_index("study_patient_name_alphabetic", "study", ["patient_name_alphabetic"], unique=False)
    op.create_index("study_study_date", "study", ["study_date", "study_instance_uid"], unique=False)
    op.create_table(
        "version",
        sa.Column("id", Number, autoincrement=False, nullable=False),
        sa.Column("study_instance_uid", Name, nullable=False),
        sa.Column("series_instance_uid", Name, nullable=False),
        sa.Column("sop_instance_uid", Name, nullable=False),
        sa.Column("valid_from", Number, nullable=False),
        sa.Column("valid_to", Number, nullable=True),
        sa.Column("sop_class_uid", Name, nullable=False),
        sa.Column("transfer_syntax_uid", Name, nullable=False),
        sa.Column("instance_number", Number, nullable=True),
        sa.Column("rows", Number, nullable=True),
        sa.Column("columns", Number, nullable=True),
        sa.Column("bits_allocated", Number, nullable=True),
        sa.Column("content_date", Name, nullable=True),
        sa.Column("content_time", Name, nullable=True),
        sa.Column("number_of_frames", Number, nullable=False),
        sa.Column("pixel_segment", Number, nullable=True),
        sa.Column("size", Number, nullable=False),
        sa.Column("stored_at", sa.Double(), nullable=False),
        sa.Column("recipe_digest", sa.LargeBinary(), nullable=False),
        sa.Column("dataset_digest", sa.LargeBinary(), nullable=False),
        sa.Column("received_digest", sa.LargeBinary()),
        sa.Column("frame_table_digest", sa.LargeBinary(), nullable=True),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("recipe", sa.LargeBinary(), nullable=False),
        sa.Column("view_recipe", sa.LargeBinary(), nullable=True),
        sa.Column("parent_attributes", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "version_head",
        "version",
        ["study_instance_uid", "series_instance_uid", "sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("valid_to IS NULL"),
        postgresql_where=sa.text("valid_to IS NULL"),
    )
    op.create_index(
        "version_past",
        "version",
        ["study_instance_uid", "series_instance_uid", "sop_instance_uid", "valid_from"],
        unique=False,
    )
    op.create_index("version_sop_instance_uid", "version", ["sop_instance_uid"], unique=False)
    op.create_table(
        "version_blob",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("version_id", Number, nullable=False),
        sa.PrimaryKeyConstraint("digest", "version_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("version_blob_version_id", "version_blob", ["version_id"], unique=False)
    conn = op.get_bind()
    conn.execute(sa.text("INSERT INTO sequence_counter (id, value) VALUES (1, 0)"))
    conn.execute(
        sa.text(
            "INSERT INTO archive_info (id, archive_uuid, created_at, format_version, swept_at) "
            "VALUES (1, :uuid, :now, 1, :now)"
        ),
        {"uuid": str(uuid.uuid4()), "now": time.time()},
    )
