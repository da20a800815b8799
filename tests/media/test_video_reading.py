import http.server
import struct
import threading

import pytest

from cl2cm.errors import MediaError
from cl2cm.media import video_reading
from cl2cm.media.decoder_pool import Budget
from cl2cm.media.images import Preprocess, load_frames
from cl2cm.media.video import Film
from cl2cm.serve.media import shrink_frame
from cl2cm.types import Sampling
from fixtures.videos import grey, write_film

pytest.importorskip("av", reason="the extra video is not installed")

TO_32 = Preprocess(32)


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A whole video that no other file may lead to."""
    return write_film(tmp_path_factory.mktemp("secret") / "secret.ts", [grey(n) for n in range(30)])


@pytest.fixture
def visits():
    """What was asked of a server on this machine."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "DASH": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
    "mediaPresentationDuration='PT3S'><Period><AdaptationSet mimeType='video/mp4'>"
    "<Representation id='1' bandwidth='1'><BaseURL>{}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>",
    "Ogg comment": "OggS{}",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts.mov", ".mkv"])
def test_a_playlist_leads_nowhere(tmp_path, secret, visits, kind, suffix):
    host, asked = visits
    name, port = host.split(":")
    places = (f"http://{host}/x.ts", str(secret), f"file:{secret}", f"subfile,,start,0:{secret}")
    for place in places:
        path = tmp_path / f"a{suffix}"
        path.write_text(PLAYLISTS[kind].format(place, host=name, port=port))
        with pytest.raises(MediaError, match="another kind of file, or a damaged one"):
            load_frames(path, TO_32)
    assert not asked


def test_a_track_in_another_file_is_not_followed(tmp_path, secret):
    whole = write_film(tmp_path / "a.mov", [grey(n) for n in range(30)], codec="mpeg4")
    data = whole.read_bytes()
    entry = data.index(b"url ", data.index(b"dref")) - 4
    path = str(secret).encode()
    record = bytearray(150)  # an alias record of QuickTime, of version 2
    record[4:8] = struct.pack(">HH", 150, 2)
    record[10] = 4
    record[50] = min(63, len(secret.name))
    record[51 : 51 + len(secret.name)] = secret.name.encode()
    record += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + b"\xff\xff\0\0"
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + bytes(record)
    grown = len(alias) - 12
    changed = bytearray(data[:entry] + alias + data[entry + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = changed.rindex(box, 0, entry) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + grown)
    whole.write_bytes(changed)
    with pytest.raises(MediaError):
        load_frames(whole, TO_32)


def patched(tmp_path, box, offset, *values):
    data = bytearray(write_film(tmp_path / "a.mp4", [grey(n) for n in range(30)]).read_bytes())
    place = data.index(box) + 4 + offset
    data[place : place + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    path = tmp_path / "claims.mp4"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("box", "offset", "values"),
    [
        (b"stsz", 4, (1, 0x0FFFFFFF)),  # a quarter of a billion samples
        (b"stts", 8, (0x7FFFFFFF, 1)),
        (b"stts", 8, (30, 0x7FFFFFFF)),  # frames that are shown for years
        (b"mdhd", 12, (1, 0xFFFFFFFF)),
        (b"elst", 4, (1, 0x7FFFFFFF, 0x7FFFFFFF)),
    ],
)
def test_a_video_that_claims_too_much(tmp_path, box, offset, values):
    with pytest.raises(MediaError, match=r"cut short|cannot last"):
        load_frames(patched(tmp_path, box, offset, *values), TO_32, Sampling("fps", fps=30))


def test_a_still_image_of_few_bytes_a_second(tmp_path):
    still = [grey(90, 64, 64)] * 60
    path = write_film(tmp_path / "a.mp4", still, times=[20.0 * n for n in range(60)], gop=1000)
    assert path.stat().st_size < 50 * 1180
    with Film(path) as film:
        assert film.end >= 1180
    assert load_frames(path, TO_32, Sampling(frames=3)).shape == (3, 32, 32, 3)


def test_a_video_longer_than_any(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", [grey(n) for n in range(30)])
    monkeypatch.setattr("cl2cm.media.video_file._LONGEST", 2.0)
    with pytest.raises(MediaError, match="cannot last 3 s"):
        Film(path)


def test_a_video_beyond_its_budget(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", [grey(n, 720, 1280) for n in range(20)])
    monkeypatch.setattr(video_reading, "BUDGET", Budget(cpu=60, wall=60, memory=2**22))
    with pytest.raises(MediaError):
        load_frames(path, TO_32)
    monkeypatch.undo()
    assert load_frames(path, TO_32, Sampling(frames=1)).shape == (1, 32, 32, 3)


def test_a_still_of_a_damaged_video_is_one_error(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + b"\xff" * 4000)
    with pytest.raises(MediaError, match=r"a\.mp4: expected an image or video"):
        shrink_frame(path, 320, (None, None), path.name)
