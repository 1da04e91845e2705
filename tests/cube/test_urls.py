"""URLs: where a cube may lie, one spelling of each place, and no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cube
from cube import clouds, urls
from cube.errors import StoreError

SECRET = "hunter2"

STEPS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=8).filter(
    lambda step: step not in (".", "..")
)


class TestFolders:
    def test_one_folder_has_one_spelling(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for same in (
            "a.zarr",
            "./a.zarr",
            "a.zarr/",
            Path("a.zarr"),
            tmp_path / "a.zarr",
            f"file://{tmp_path}/a.zarr",
        ):
            assert urls.normalise(same) == str(tmp_path / "a.zarr")
            assert urls.is_folder(urls.normalise(same))

    def test_a_folder_whose_name_looks_like_a_cloud_is_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert urls.normalise("s3/bucket") == str(tmp_path / "s3/bucket")


class TestMemory:
    def test_it_stays_as_it_is(self):
        assert urls.normalise("memory://a") == "memory://a"
        assert urls.is_memory("memory://a")
        assert not urls.is_folder("memory://a")
        assert not urls.is_memory("/memory")


class TestObjectStores:
    @pytest.mark.parametrize("head", ["s3", "gs", "az"])
    def test_empty_steps_are_left_out(self, head):
        for same in (f"{head}://b/c/d.zarr", f"{head}://b/c/d.zarr/", f"{head}://b//c///d.zarr"):
            assert urls.normalise(same) == f"{head}://b/c/d.zarr"
        assert urls.scheme(f"{head}://b/c") == head
        assert not urls.is_folder(f"{head}://b/c")
        assert urls.bucket_and_path(f"{head}://b/c/d.zarr") == ("b", "c/d.zarr")

    @given(st.sampled_from(["s3", "gs", "az"]), st.lists(STEPS, min_size=1, max_size=4))
    def test_normalising_again_changes_nothing(self, head, steps):
        once = urls.normalise(f"{head}://bucket/{'//'.join(steps)}/")
        assert urls.normalise(once) == once
        assert urls.bucket_and_path(once) == ("bucket", "/".join(steps))

    @pytest.mark.parametrize("rest", ["", "/", "bucket", "bucket/", "-bucket/a", "b/../a", "b/./a"])
    def test_a_cube_needs_a_place_in_a_bucket(self, rest):
        with pytest.raises(StoreError, match=r"needs a place in a bucket, such as s3://bucket/"):
            urls.normalise(f"s3://{rest}")


@pytest.mark.parametrize("url", ["http://host/a.zarr", "S3://bucket/a", "gcs://b/a", "://a"])
def test_an_unknown_scheme_is_refused_with_those_there_are(url):
    expected = r"s3://bucket/path, gs://.*, az://.* or memory://name. Received the scheme '"
    with pytest.raises(StoreError, match=expected):
        urls.normalise(url)


class TestSecrets:
    @pytest.mark.parametrize(
        "url",
        [
            f"s3://key:{SECRET}@bucket/a.zarr",
            f"s3://key:{SECRET}/bucket/a.zarr",
            f"s3://{SECRET}@bucket/a.zarr",
            f"s3://bucket/a.zarr?X-Amz-Signature={SECRET}",
            f"az://container/a.zarr?sv=2022&sig={SECRET}",
            f"gs://bucket/a.zarr#token={SECRET}",
            f"https://user:{SECRET}@host/a.zarr",
        ],
    )
    def test_a_url_that_carries_one_is_refused_and_not_repeated(self, url, spec):
        for call in (urls.normalise, lambda place: cube.create(place, spec), cube.open):
            with pytest.raises(StoreError) as refused:
                call(url)
            error = refused.value
            while error is not None:
                assert SECRET not in str(error)
                error = error.__cause__ or error.__context__

    @pytest.mark.parametrize(
        "text",
        [
            f"GET https://a.blob.core.windows.net/c/k?sv=2022&sig={SECRET}&se=2030 failed",
            f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SECRET}",
            f"https://b.s3.amazonaws.com/k?X-Amz-Security-Token={SECRET}&x=1",
            f"X-Amz-Credential={SECRET}/20300101/us-east-1/s3/aws4_request",
            f"AccountName=a;AccountKey={SECRET}",
            f"https://user:{SECRET}@host/k",
            f"password={SECRET}",
            f"Authorization={SECRET}",
            f"client_secret={SECRET}",
            f"authorization: Bearer {SECRET}",
        ],
    )
    def test_what_looks_like_one_is_taken_out_of_messages(self, text):
        assert SECRET in text
        clean = urls.without_secrets(text)
        assert SECRET not in clean
        assert "***" in clean

    def test_other_text_stays(self):
        text = "Server returned non-2xx status code: 503 for s3://bucket/cube.zarr/zarr.json"
        assert urls.without_secrets(text) == text


def test_temporary_credentials_are_asked_for_again(monkeypatch):
    """obstore keeps a credential without an end for ever; a role's lasts an hour."""
    session = pytest.importorskip("botocore.session")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for token in ("temporary", None):
        found = botocore_credentials("key", "secret", token)
        monkeypatch.setattr(session.Session, "get_credentials", lambda self, found=found: found)
        given = clouds._aws_options()["credential_provider"]()
        assert (given["expires_at"] is not None) == (token is not None)
        if token:
            assert given["expires_at"].tzinfo is not None


def botocore_credentials(*parts):
    from botocore.credentials import Credentials

    return Credentials(*parts)
