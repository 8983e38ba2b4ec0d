"""The functions through SQL, against the generator's truth and against pydicom."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

# Distance between a found and a true R-peak, in seconds.
TOLERANCE = 0.020


def matches(found, true, tolerance):
    """How many true peaks have a found one within the tolerance, each used once."""
    found, used, count = sorted(found), 0, 0
    for peak in sorted(true):
        while used < len(found) and found[used] < peak - tolerance:
            used += 1
        if used < len(found) and abs(found[used] - peak) <= tolerance:
            count += 1
            used += 1
    return count


def test_r_peaks_are_where_the_generator_put_them(hub):
    truth = pq.read_table(hub.truth("ecg.parquet")).to_pylist()
    # The truth names recordings by stored number; position in the file tells which is which.
    recordings = pq.read_table(
        hub.dir / "data" / "datasets" / "cardio" / "ecg", columns=["rec_id", "rec_dte", "fs", "signal"])
    by_signal = {}
    for row in range(recordings.num_rows):
        lead = recordings["signal"][row].as_py()[1]
        by_signal[np.asarray(lead, dtype=np.float32).tobytes()] = recordings["rec_id"][row].as_py()
    truth = {row["rec_id"]: row for row in truth}
    shown = hub.query("startup", "SELECT fs, signal[2] AS lead, ecg_rpeaks(signal[2], fs) AS peaks FROM cardio.ecg")
    true_beats = found_beats = false_beats = 0
    for row in shown.to_pylist():
        known = truth[by_signal[np.asarray(row["lead"], dtype=np.float32).tobytes()]]
        if not known["clean"]:
            continue
        good = matches(row["peaks"], known["rpeaks"], TOLERANCE * row["fs"])
        true_beats += len(known["rpeaks"])
        found_beats += good
        false_beats += len(row["peaks"]) - good
    assert true_beats > 200
    print(f"R-peaks of clean records: {found_beats} of {true_beats} within 20 ms, {false_beats} others")
    assert found_beats / true_beats >= 0.99
    assert false_beats / true_beats <= 0.02


def test_tags_equal_pydicom(hub):
    rows = hub.query("hospital", """
        SELECT content, dicom_tags(content) AS tags, dicom_tags(content, 'Modality') AS modality,
               dicom_tags(content, '(0028,0010)') AS rows FROM imaging.instances LIMIT 40""").to_pylist()
    assert rows
    for row in rows:
        data = pydicom.dcmread(io.BytesIO(row["content"]))
        assert row["modality"] == data.Modality
        assert row["rows"] == str(data.Rows)
        shown = json.loads(row["tags"])
        expected = json.loads(data.to_json(suppress_invalid_tags=True, bulk_data_threshold=0,
                                           bulk_data_element_handler=lambda element: ""))
        for tag in ("00080060", "00280010", "00280011", "00280100", "00280103"):
            assert shown[tag] == expected[tag], tag


def test_windows_equal_pydicom(hub):
    rows = hub.query("hospital", """
        SELECT content, dicom_window(content) AS image FROM imaging.instances
        WHERE modality IN ('CT', 'MR', 'CR', 'DX') LIMIT 40""").to_pylist()
    compared = 0
    for row in rows:
        data = pydicom.dcmread(io.BytesIO(row["content"]))
        if data.SamplesPerPixel != 1 or "WindowCenter" not in data:
            continue
        stored = pydicom.pixels.apply_modality_lut(data.pixel_array, data).astype(np.float64)
        first = lambda value: float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
        center, width = first(data.WindowCenter), first(data.WindowWidth)
        # PS3.3 C.11.2.1.2.1, linear.
        shown = ((stored - (center - 0.5)) / (width - 1) + 0.5) * 255
        shown = np.where(stored <= center - 0.5 - (width - 1) / 2, 0, shown)
        shown = np.where(stored > center - 0.5 + (width - 1) / 2, 255, shown)
        if data.PhotometricInterpretation == "MONOCHROME1":
            shown = 255 - shown
        image = row["image"]
        assert (image["rows"], image["columns"], image["samples"]) == (data.Rows, data.Columns, 1)
        difference = np.abs(np.asarray(image["pixels"], dtype=float).reshape(data.Rows, data.Columns) - shown)
        # Half a grey value of rounding, and one where the JPEG decoders differ.
        assert difference.max() <= (2.01 if data.file_meta.TransferSyntaxUID.is_compressed else 0.51)
        compared += 1
    assert compared > 5


def test_reports_lose_their_identifying_text(hub):
    rows = hub.query("curator", """
        SELECT text, text_deidentify(text) AS clean FROM reports_raw.documents LIMIT 200""").to_pylist()
    truth = {}
    for row in pq.read_table(hub.truth("reports.parquet")).to_pylist():
        truth.setdefault(row["doc_id"], row)
    raw = pq.read_table(hub.dir / "data" / "datasets" / "reports_raw" / "documents").to_pylist()
    spans = {row["text"]: truth[row["doc_id"]]["spans"] for row in raw}
    hidden = total = 0
    for row in rows:
        for span in spans[row["text"]]:
            total += 1
            hidden += row["text"][span["start"]:span["end"]] not in row["clean"]
    print(f"identifying spans hidden: {hidden} of {total}")
    assert total > 500 and hidden / total >= 0.98


@pytest.mark.parametrize("sql, expected", [
    ("SELECT text_deidentify('') AS v", ""),
    ("SELECT text_deidentify(CAST(NULL AS VARCHAR)) AS v", None),
    ("SELECT dicom_tags(arrow_cast('junk', 'Binary')) AS v", None),
    ("SELECT ecg_rpeaks(make_array(1.0, 'NaN'::float, 2.0), 500) AS v", None),
])
def test_bad_input_gives_null_or_itself(hub, sql, expected):
    assert hub.query("hospital", sql)["v"][0].as_py() in (expected, [])


def test_failing_rows_are_counted_reported_or_stop_the_query(hub):
    junk = "arrow_cast('junk', 'Binary')"
    assert hub.query("hospital", f"SELECT dicom_tags({junk}, on_error => 'report') AS v")["v"][0].as_py()["error"]
    status, text = hub.error("hospital", f"SELECT dicom_tags({junk}, on_error => 'fail') AS v")
    assert status == "INVALID_ARGUMENT" and "dicom_tags" in text
    hub.query("hospital", f"SELECT dicom_tags({junk}) AS counted")
    counted = hub.query("hospital", "SELECT max(failed_rows) AS n FROM hub.queries")["n"][0].as_py()
    assert counted >= 1
