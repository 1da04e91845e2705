"""An href of a stranger opens nothing of this machine or of its networks, however it is spelled."""

from __future__ import annotations

import ipaddress
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.access import REMOTE, Access, check_label, resolve
from cube.errors import SourceError, SpecError

OUTSIDE = "93.184.216.34"


def outside(host):
    return [OUTSIDE]


def nowhere(host):
    return []


PUBLIC = Access(resolve=outside)


def refused(href, match, access=PUBLIC):
    with pytest.raises(SourceError, match=match) as caught:
        access.check(href, what="Item 'a', asset 'red'")
    message = str(caught.value)
    assert message.startswith("Item 'a', asset 'red': ")
    assert message.isprintable()
    return message


class TestAllowed:
    @pytest.mark.parametrize(
        "href",
        [
            "https://data.example.com/a/b.tif",
            "https://data.example.com:8443/a.tif?sig=abc%3D&se=2030",
            "https://93.184.216.34/a.tif",
            "https://[2606:2800:220:1:248:1893:25c8:1946]/a.tif",
            "https://under_score.example.com/with space.tif",
            "s3://usgs-landsat/collection02/level-2/a.TIF",
            "gs://bucket_1/a.tif",
            "az://container/a.tif",
        ],
    )
    def test_a_plain_url_comes_back_as_it_is(self, href):
        assert PUBLIC.check(href, what="x") == href

    def test_a_scheme_has_one_spelling(self):
        assert PUBLIC.check("HTTPS://Example.com/A.tif", what="x") == "https://Example.com/A.tif"

    def test_a_name_without_an_address_is_left_to_reading(self):
        assert Access(resolve=nowhere).check("https://gone.example/a.tif", what="x")

    def test_http_is_allowed_only_if_asked_for(self):
        refused("http://example.com/a.tif", "its scheme must be one of https, s3, gs, az")
        plain = Access(schemes=("http",), resolve=outside)
        assert plain.check("http://example.com/a.tif", what="x")

    def test_a_host_is_asked_for_once(self):
        asked = []

        def counting(host):
            asked.append(host)
            return [OUTSIDE]

        access = Access(resolve=counting)
        for n in range(5):
            access.check(f"https://A.example.com./{n}.tif", what="x")
        assert asked == ["a.example.com"]

    def test_the_default_asks_this_machine(self):
        assert REMOTE.resolve is resolve
        assert all(ipaddress.ip_address(text).is_loopback for text in resolve("localhost"))
        assert resolve("a..b") == ()


class TestSchemes:
    @pytest.mark.parametrize(
        "href",
        [
            "file:///etc/passwd",
            "ftp://example.com/a.tif",
            "vrt:///a.tif",
            "vrt://https://example.com/a.tif?bands=1",
            "zip://a.zip!/a.tif",
            "zip+https://example.com/a.zip!a.tif",
            "gzip+file:///etc/passwd",
            "oss://bucket/a.tif",
            "data://x",
            "memory://x",
        ],
    )
    def test_other_schemes_are_refused(self, href):
        refused(href, "its scheme must be one of https, s3, gs, az")
        refused(href, "its scheme must be one of https", Access.of_folder("/"))

    @pytest.mark.parametrize(
        "href",
        [
            "file:/etc/passwd",
            "netcdf:/data/a.nc:red",
            "NETCDF:https://example.com/a.nc:red",
            'HDF5:"a.h5"://red',
            "WMS:https://example.com",
            "DERIVED_SUBDATASET:LOGAMPLITUDE:/data/a.tif",
            "GTIFF_DIR:1:/data/a.tif",
            "GTIFF_RAW:/data/a.tif",
            "data:text/plain,x",
            "C:/a.tif",
        ],
    )
    def test_prefixes_of_drivers_are_refused_even_of_local_catalogues(self, href):
        for access in (PUBLIC, Access.of_folder("/")):
            refused(href, "prefixes of GDAL's drivers and file systems are never allowed", access)

    @pytest.mark.parametrize(
        "href", ["/vsicurl/https://example.com/a.tif", "/vsimem/a", "/vsizip//data/a.zip/a.tif"]
    )
    def test_virtual_files_are_refused_even_of_local_catalogues(self, href):
        for access in (PUBLIC, Access.of_folder("/")):
            refused(href, "GDAL's virtual files are never allowed", access)

    @pytest.mark.parametrize(
        "href",
        [
            "<VRTDataset rasterXSize='1'></VRTDataset>",
            "https://example.com/a.tif|/etc/passwd",
            "https://example.com\\@169.254.169.254/a.tif",
            "https://example.com/a\n.tif",
            "https://example.com/a\x00.tif",
            "https://example.com/\u202egpj.tif",
            "\thttps://example.com/a.tif",
        ],
    )
    def test_what_means_something_else_to_somebody_is_refused(self, href):
        refused(href, "it holds a control character, '\\|', '\\\\' or '<'")

    @pytest.mark.parametrize("href", [None, 5, "", "  ", [], {"a": 1}])
    def test_what_is_no_text_is_refused(self, href):
        refused(href, "an href was expected")


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "017700000001",
            "0177.0.0.01",
            "169.254.169.254",
            "2852039166",
            "0xa9.0xfe.0xa9.0xfe",
            "10.0.0.8",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "0",
            "224.0.0.1",
            "224.0.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:7f00:1::]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
        ],
    )
    def test_addresses_inside_are_refused_in_any_spelling(self, host):
        refused(f"https://{host}/a.tif", "it leads to .*list the host in hosts=")
        refused(f"https://{host}:8443/a.tif", "it leads to .*list the host in hosts=")

    @pytest.mark.parametrize(
        "addresses", [["127.0.0.1"], [OUTSIDE, "10.0.0.1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"]]
    )
    def test_a_name_that_leads_inside_is_refused(self, addresses):
        access = Access(resolve=lambda host: addresses)
        refused("https://rebound.example.com/a.tif", "inside this network or machine", access)

    @pytest.mark.parametrize(
        "authority", ["user@example.com", "user:pass@example.com", "example.com@169.254.169.254"]
    )
    def test_users_and_passwords_are_refused_and_not_repeated(self, authority):
        message = refused(f"https://{authority}/a.tif", "user name or password are never allowed")
        assert "pass@" not in message
        assert "***@" in message

    @pytest.mark.parametrize(
        "authority",
        ["", ":443", ".", "exa mple.com", "ex%61mple.com", "exämple.com", "[::1", "::1", "a:b:c"],
    )
    def test_what_is_no_host_is_refused(self, authority):
        refused(f"https://{authority}/a.tif", "its host cannot be read")

    @pytest.mark.parametrize("host", ["256.1.1.1", "1.2.3.4.5", "99999999999", "[1::2::3]"])
    def test_what_only_looks_like_an_address_is_refused(self, host):
        refused(f"https://{host}/a.tif", "its host is no address")

    def test_a_query_and_a_path_are_no_host(self):
        assert PUBLIC.check("https://example.com?x@y", what="x")
        refused("https://127.0.0.1#@example.com/a.tif", "it leads to")
        refused("https://127.0.0.1?@example.com/a.tif", "it leads to")

    @given(st.ip_addresses())
    def test_an_address_is_allowed_only_if_it_is_of_the_internet(self, address):
        host = f"[{address}]" if address.version == 6 else str(address)
        try:
            PUBLIC.check(f"https://{host}/a.tif", what="x")
        except SourceError:
            return
        assert address.is_global
        assert not address.is_multicast

    @given(st.ip_addresses(v=4))
    def test_every_spelling_of_an_address_is_judged_alike(self, address):
        number = int(address)
        octal = ".".join(f"0{part:o}" for part in address.packed)
        spellings = [str(address), str(number), hex(number), octal, f"[::ffff:{address}]"]
        outcomes = set()
        for host in spellings:
            try:
                PUBLIC.check(f"https://{host}/a.tif", what="x")
                outcomes.add("allowed")
            except SourceError:
                outcomes.add("refused")
        assert len(outcomes) == 1


class TestListedHosts:
    LISTED = Access(
        schemes=("https", "http", "s3"),
        hosts=("Data.example.com", "*.blob.example.net", "127.0.0.1", "s3://usgs-landsat"),
        resolve=nowhere,
    )

    @pytest.mark.parametrize(
        "href",
        [
            "https://data.example.com/a.tif",
            "https://DATA.example.com./a.tif",
            "https://one.blob.example.net/a.tif",
            "http://127.0.0.1:8080/a.tif",
            "s3://usgs-landsat/a.tif",
        ],
    )
    def test_listed_hosts_are_allowed_wherever_they_are(self, href):
        assert self.LISTED.check(href, what="x")

    @pytest.mark.parametrize(
        "href",
        [
            "https://example.com/a.tif",
            "https://evildata.example.com/a.tif",
            "https://blob.example.net/a.tif",
            "https://evilblob.example.net/a.tif",
            "https://data.example.com.evil.org/a.tif",
            "http://127.0.0.2/a.tif",
        ],
    )
    def test_others_are_refused(self, href):
        refused(href, "its host is not one of data.example.com, ", self.LISTED)

    def test_other_buckets_are_refused_also_those_named_like_a_host(self):
        refused("s3://other/a.tif", "its bucket is not one of", self.LISTED)
        refused("s3://one.blob.example.net/a.tif", "its bucket is not one of", self.LISTED)


class TestBuckets:
    @pytest.mark.parametrize("bucket", ["", "UPPER", "a b", "a..b", "-a", "..", "a%2e", "a:b"])
    def test_a_bucket_has_a_plain_name(self, bucket):
        refused(f"s3://{bucket}/a.tif", "a bucket's name has lower-case letters")

    def test_a_path_stays_in_its_bucket(self):
        refused("s3://mine/../other/a.tif", "a path in a bucket holds no '..'")

    def test_keys_of_an_account_are_refused(self):
        message = refused("s3://KEY:SECRET@bucket/a.tif", "user name or password")
        assert "SECRET" not in message


class TestFolders:
    def test_files_are_refused_unless_a_folder_is_given(self):
        refused("/etc/passwd", "files of this machine are not allowed; .*give folders=")
        refused("a.tif", "files of this machine are not allowed")

    def test_files_of_the_folder_are_allowed(self, tmp_path):
        access = Access.of_folder(tmp_path)
        real = os.path.realpath(tmp_path)
        assert access.check(f"{tmp_path}/sub/a.tif", what="x") == f"{real}/sub/a.tif"
        assert access.check(f"{tmp_path}/sub/../a:b.tif", what="x") == f"{real}/a:b.tif"

    def test_a_local_catalogue_may_also_point_outside_but_not_inside(self, tmp_path):
        access = Access.of_folder(tmp_path)
        assert access.check("s3://bucket/a.tif", what="x")
        refused("https://127.0.0.1/a.tif", "it leads to 127.0.0.1", access)

    @pytest.mark.parametrize(
        "inside", ["../secret.tif", "sub/../../secret.tif", "link.tif", "up/x"]
    )
    def test_ways_out_of_the_folder_are_refused(self, tmp_path, inside):
        folder = tmp_path / "catalogue"
        (folder / "sub").mkdir(parents=True)
        (tmp_path / "secret.tif").write_text("secret")
        (folder / "link.tif").symlink_to(tmp_path / "secret.tif")
        (folder / "up").symlink_to(tmp_path)
        refused(f"{folder}/{inside}", "files must lie in", Access.of_folder(folder))

    def test_a_folder_with_a_longer_name_is_another(self, tmp_path):
        access = Access.of_folder(tmp_path / "data")
        refused(f"{tmp_path}/database/a.tif", "files must lie in", access)

    def test_a_relative_path_is_refused(self, tmp_path):
        refused("a.tif", "a path of this machine must be absolute", Access.of_folder(tmp_path))


class TestAccess:
    def test_it_pickles_and_is_equal_by_what_it_allows(self):
        assert pickle.loads(pickle.dumps(PUBLIC)) == PUBLIC == REMOTE
        assert Access(hosts=("a",)) != REMOTE

    def test_an_unknown_scheme_is_refused(self):
        with pytest.raises(SpecError, match="must be some of https, http, s3, gs, az. .* 'file'."):
            Access(schemes=("https", "file"))

    @pytest.mark.parametrize("name", ["schemes", "hosts", "folders"])
    def test_text_in_the_place_of_a_list_is_refused(self, name):
        with pytest.raises(SpecError, match=f"Access: {name} are a list. Received 'https'."):
            Access(**{name: "https"})

    def test_a_message_names_no_signature(self):
        message = refused("ftp://example.com/a.tif?sig=SECRET", "its scheme")
        assert "SECRET" not in message
        assert "'ftp://example.com/a.tif'" in message

    @given(st.text())
    def test_whatever_the_text_there_is_an_answer(self, text):
        message = ""
        try:
            allowed = PUBLIC.check(text, what="x")
        except SourceError as error:
            message = str(error)
        assert message.isprintable()
        assert message or allowed.partition("://")[0] in PUBLIC.schemes


class TestLabels:
    @pytest.mark.parametrize("label", ["a", "../../etc/passwd", "Ä ö", "x" * 200, "a/b?c#d"])
    def test_printable_text_is_a_label(self, label):
        assert check_label(label, what="The id of an item") == label

    @pytest.mark.parametrize("label", [None, 5, "", "   ", ["a"]])
    def test_what_is_no_text_is_refused(self, label):
        with pytest.raises(SourceError, match="The id of an item must be text that is not empty"):
            check_label(label, what="The id of an item")

    @pytest.mark.parametrize("label", ["a\nb", "a\x1b[31m", "\u202e", "x" * 201])
    def test_what_would_garble_a_terminal_is_refused_and_shown_escaped(self, label):
        with pytest.raises(SourceError, match="must be printable, at most 200") as caught:
            check_label(label, what="id")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
