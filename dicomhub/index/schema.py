"""The tables of the index.

=====================  =============================================================================================
table                  one row is
=====================  =============================================================================================
``version``            one state of one instance; current (the *head*) while ``valid_to`` is null
``blob``               bytes by their SHA-256: inline when small, else in the blob store
``version_blob``       a version needs a blob
``study``, ``series``  the head only: what searches match and return, and counts
``change``             one step of the change sequence, never altered
``sequence_counter``   the last number of the change sequence (one row)
``plugin_cursor``      how far a plugin has been told
``archive_info``       what this archive is (one row)
=====================  =============================================================================================

Columns are keywords of PS3.6 in snake case. Conventions, kept by `dicomhub.index.columns`:

- an attribute that is absent or empty is NULL, so ``IS NULL`` is the test for both;
- person names have one column per component group, in the form of `dicomhub.dicom.names.normalise_person_name`;
- dates and times are as in the data set, without the delimiters of older standards (``1997.04.24``, ``10:15:00``);
- columns with several values hold them as ``\\A\\B\\``: a LIKE for ``%\\A\\%`` finds one value;
- ``attributes`` is the DICOM JSON object (UTF-8) of what a search may return of that level.

Every change has one number and makes at most one version, so a version's ``id`` is the number of the change that made
it, and ``valid_from`` is the same number. The state as of change ``n`` is
``valid_from <= n AND (valid_to IS NULL OR valid_to > n)``.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import TEXT

metadata = MetaData()

Name = Text().with_variant(TEXT(collation="C"), "postgresql")
"""Text that compares by code point on both databases, so that indexes serve prefixes and order is the same."""

Number = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both; only INTEGER PRIMARY KEY is SQLite's row id."""

version = Table(
    "version",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("study_instance_uid", Name, nullable=False),
    Column("series_instance_uid", Name, nullable=False),
    Column("sop_instance_uid", Name, nullable=False),
    Column("valid_from", Number, nullable=False),
    Column("valid_to", Number),
    Column("sop_class_uid", Name, nullable=False),
    Column("transfer_syntax_uid", Name, nullable=False),
    Column("instance_number", Number),
    Column("rows", Number),
    Column("columns", Number),
    Column("bits_allocated", Number),
    Column("content_date", Name),
    Column("content_time", Name),
    Column("number_of_frames", Number, nullable=False),  # 0 without pixel data
    Column("pixel_segment", Number),  # place of the pixel data among the segments of the (view) recipe
    Column("size", Number, nullable=False),  # bytes of the Part 10 file
    Column("stored_at", Double, nullable=False),  # s since the epoch
    Column("recipe_digest", LargeBinary, nullable=False),
    Column("dataset_digest", LargeBinary, nullable=False),
    Column("received_digest", LargeBinary),  # what recipe_digest was before plugins coerced
    Column("frame_table_digest", LargeBinary),
    # Long values last: SQLite reads a row's overflow pages only for the columns behind them.
    Column("attributes", LargeBinary, nullable=False),  # instance level
    Column("recipe", LargeBinary, nullable=False),
    Column("view_recipe", LargeBinary),  # of the inflated form of a deflated file
    Column("parent_attributes", LargeBinary, nullable=False),  # zstd of the JSON array [study level, series level]
    Column("metadata", LargeBinary),  # zstd of the DICOM JSON; null when too long to be kept
    Index(
        "version_head",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("valid_to IS NULL"),
        postgresql_where=text("valid_to IS NULL"),
    ),
    Index("version_past", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "valid_from"),
    Index("version_sop_instance_uid", "sop_instance_uid"),
)

blob = Table(
    "blob",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("size", Number, nullable=False),  # bytes when decoded
    Column("encoding", Name, nullable=False),  # of data: raw or zstd
    Column("created_at", Double, nullable=False),  # s since the epoch; renewed when an instance brings it again
    Column("data", LargeBinary),  # null: in the blob store
    Index("blob_created_at", "created_at"),
)

version_blob = Table(
    "version_blob",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("version_id", Number, primary_key=True),
    Index("version_blob_version_id", "version_id"),
    sqlite_with_rowid=False,
)

study = Table(
    "study",
    metadata,
    Column("study_instance_uid", Name, primary_key=True),
    Column("patient_id", Name),
    Column("issuer_of_patient_id", Name),
    Column("patient_name_alphabetic", Name),
    Column("patient_name_ideographic", Name),
    Column("patient_name_phonetic", Name),
    Column("patient_birth_date", Name),
    Column("patient_birth_time", Name),
    Column("patient_sex", Name),
    Column("study_date", Name),
    Column("study_time", Name),
    Column("accession_number", Name),
    Column("study_id", Name),
    Column("study_description", Name),
    Column("referring_physician_name_alphabetic", Name),
    Column("referring_physician_name_ideographic", Name),
    Column("referring_physician_name_phonetic", Name),
    Column("modalities_in_study", Name),  # several values, sorted
    Column("sop_classes_in_study", Name),  # several values, sorted
    Column("number_of_study_related_series", Number, nullable=False),
    Column("number_of_study_related_instances", Number, nullable=False),
    Column("created_at", Double, nullable=False),  # s since the epoch
    Column("last_change", Number, nullable=False),
    Column("attributes", LargeBinary, nullable=False),  # patient and study; the newest value that is not empty wins
    Index("study_patient_id", "patient_id"),
    Index("study_patient_name_alphabetic", "patient_name_alphabetic"),
    Index("study_study_date", "study_date", "study_instance_uid"),
    Index("study_accession_number", "accession_number"),
    Index("study_last_change", "last_change"),
)

series = Table(
    "series",
    metadata,
    Column("study_instance_uid", Name, primary_key=True),
    Column("series_instance_uid", Name, primary_key=True),
    Column("modality", Name),
    Column("series_number", Number),
    Column("series_date", Name),
    Column("series_time", Name),
    Column("performed_procedure_step_start_date", Name),
    Column("performed_procedure_step_start_time", Name),
    Column("series_description", Name),
    Column("body_part_examined", Name),
    Column("laterality", Name),
    Column("protocol_name", Name),
    Column("station_name", Name),
    Column("institution_name", Name),
    Column("scheduled_procedure_step_id", Name),  # several values, from Request Attributes Sequence (0040,0275)
    Column("requested_procedure_id", Name),  # several values, from the same
    Column("number_of_series_related_instances", Number, nullable=False),
    Column("created_at", Double, nullable=False),  # s since the epoch
    Column("last_change", Number, nullable=False),
    Column("attributes", LargeBinary, nullable=False),  # series; newest as above
    Index("series_series_instance_uid", "series_instance_uid"),
    Index("series_modality", "modality"),
    Index("series_performed_procedure_step_start_date", "performed_procedure_step_start_date"),
)

change = Table(
    "change",
    metadata,
    Column("sequence", Number, primary_key=True, autoincrement=False),
    Column("action", Name, nullable=False),
    Column("study_instance_uid", Name, nullable=False),
    Column("series_instance_uid", Name, nullable=False),
    Column("sop_instance_uid", Name, nullable=False),
    Column("sop_class_uid", Name, nullable=False),
    Column("version_id", Number),
    Column("previous_version_id", Number),
    Column("at", Double, nullable=False),  # s since the epoch
    Column("actor", Name, nullable=False),
    Column("via", Name, nullable=False),
    Column("peer_address", Name, nullable=False),
    Column("peer_ae_title", Name, nullable=False),
    Column("called_ae_title", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Index("change_study_instance_uid", "study_instance_uid", "sequence"),
)

sequence_counter = Table(
    "sequence_counter",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("value", Number, nullable=False),
)

plugin_cursor = Table(
    "plugin_cursor",
    metadata,
    Column("plugin", Name, primary_key=True),
    Column("sequence", Number, nullable=False),  # told up to here
    Column("owner", Name),  # the process that delivers now
    Column("leased_until", Double, nullable=False),  # s since the epoch; then another may
    Column("failures", Number, nullable=False),  # in a row
    Column("last_error", Name, nullable=False),
    Column("retry_at", Double, nullable=False),  # s since the epoch
)

archive_info = Table(
    "archive_info",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("archive_uuid", Name, nullable=False),
    Column("created_at", Double, nullable=False),  # s since the epoch
    Column("format_version", Number, nullable=False),
    Column("swept_at", Double, nullable=False),  # s since the epoch; when the last sweep began
)
