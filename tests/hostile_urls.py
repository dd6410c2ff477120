"""URLs that lead, or seem to lead, to where only our own machines should reach, and what each is refused for.

Sources: RFC 3986, the WHATWG URL standard's host parser, IANA's registries of special addresses, the clouds' pages on
their metadata services, and the tricks that OWASP's cheat sheet on server-side request forgery gathers.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hostile:
    """A URL, a part of why it is refused, and the address that it spells or that its name leads to, if any."""

    url: str
    reason: str
    address: str | None = None


# Refused for what they say, before anything is looked up or connected to.
TEXTS = [
    # Octal with several parts, and numbers that are no address: what reads them differs from system to system.
    Hostile("https://0177.0.0.1/", "Invalid IPv4"),
    Hostile("https://0251.0376.0251.0376/", "Invalid IPv4"),
    Hostile("https://127.0.0.01/", "Invalid IPv4"),
    Hostile("https://08.0.0.1/", "Invalid IPv4"),
    Hostile("https://256.0.0.1/", "Invalid IPv4"),
    Hostile("https://4294967296/", "host"),
    Hostile("https://1.2.3.4.5/", "host"),
    Hostile("https://example.com.0x7f/", "host"),
    Hostile("https://127.0.0.1../", "host"),
    Hostile("https://localhost../", "host"),
    # Brackets
    Hostile("https://[127.0.0.1]/", "Invalid IPv6"),
    Hostile("https://[v1.a]/", "Invalid IPv6"),
    Hostile("https://[::1].example.com/", "no URL"),
    Hostile("https://::1/", "no URL"),
    Hostile("https://[::1/", "no URL"),
    # Zones of this machine
    Hostile("https://[fe80::1%eth0]/", "zone", "fe80::1%eth0"),
    Hostile("https://[fe80::1%25eth0]/", "zone"),
    Hostile("https://[::1%25lo]/", "zone", "::1%lo"),
    Hostile("https://[2606:4700:4700::1111%251]/", "zone", "2606:4700:4700::1111%1"),
    # What stands before an @ is a user's name to one reader and the host to another.
    Hostile("https://user:canary@example.com/", "user name"),
    Hostile("https://example.com@127.0.0.1/", "user name"),
    Hostile("https://example.com:443@127.0.0.1/", "user name"),
    Hostile("https://127.0.0.1@example.com/", "user name"),
    Hostile("https://@127.0.0.1/", "user name"),
    Hostile("https://127.0.0.1:443@/", "user name"),
    Hostile("https://127.0.0.1%2f@example.com/", "user name"),
    Hostile("https://example.com\uff0f@127.0.0.1/", "user name"),
    Hostile("https://example.com%40127.0.0.1/", "host"),
    # Backslashes, which browsers read as slashes
    Hostile("https:\\\\127.0.0.1/", "backslash"),
    Hostile("https:/\\127.0.0.1/", "backslash"),
    Hostile("https://example.com\\@127.0.0.1/", "backslash"),
    Hostile("https://127.0.0.1\\.example.com/", "backslash"),
    # Blanks and control characters, which some readers leave out
    Hostile("https://127.0.0.1\t/", "no URL"),
    Hostile("https://127.\t0.0.1/", "no URL"),
    Hostile("https://exam\tple.com/", "no URL"),
    Hostile("https://127.0.0.1\n/", "no URL"),
    Hostile("https://example.com/\r\nHost: 127.0.0.1", "no URL"),
    Hostile("https://\x00127.0.0.1/", "no URL"),
    Hostile("https://127.0.0.1\x00.example.com/", "no URL"),
    Hostile("https://example.com\x7f/", "no URL"),
    Hostile("https://127.0.0.1 .example.com/", "host"),
    Hostile(" https://127.0.0.1/", "must start with"),
    Hostile("https://127.0.0.1%00.example.com/", "host"),
    Hostile("https://127.0.0.1%20/", "host"),
    Hostile("https://%31%32%37.0.0.1/", "host"),
    Hostile("https://%6c%6f%63alhost/", "host"),
    Hostile("https://example.com/\ud800", "no URL"),
    # IDNA: signs that some readers turn into ASCII, or into nothing
    Hostile("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "Invalid IDNA"),
    Hostile("https://①②⑦.⓪.⓪.①/", "Invalid IDNA"),
    Hostile("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "Invalid IDNA"),
    Hostile("https://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54/", "Invalid IDNA"),
    Hostile("https://localho\u017ft/", "Invalid IDNA"),
    Hostile("https://local\u00adhost/", "Invalid IDNA"),
    Hostile("https://local\u200bhost/", "Invalid IDNA"),
    Hostile("https://\u202elocalhost/", "Invalid IDNA"),
    Hostile("https://example.com\uff0f.evil.example/", "Invalid IDNA"),
    Hostile("https://evil.c\u2100.example/", "Invalid IDNA"),
    Hostile("https://xn--127-.0.0.1/", "host"),
    # Ports
    Hostile("https://example.com:0/", "port"),
    Hostile("https://example.com:65536/", "port"),
    Hostile("https://example.com:99999999999999999999/", "port"),
    Hostile("https://example.com:-1/", "port"),
    Hostile("https://example.com:+443/", "port"),
    Hostile("https://example.com:/", "port"),
    Hostile("https://example.com:0443/", "port"),
    Hostile("https://example.com:\uff14\uff14\uff13/", "port"),
    Hostile("https://example.com:0x1bb/", "port"),
    Hostile("https://127.0.0.1:80:443/", "port"),
    Hostile("https://[::1]:/", "port"),
    # Schemes, or none
    Hostile("http:127.0.0.1/", "must start with|host"),
    Hostile("https:127.0.0.1/", "host"),
    Hostile("https:///127.0.0.1/", "host"),
    Hostile("//127.0.0.1/", "must start with"),
    Hostile("127.0.0.1", "must start with"),
    Hostile("", "must start with"),
    Hostile("ftp://127.0.0.1/", "must start with"),
    Hostile("file:///etc/passwd", "must start with"),
    Hostile("gopher://127.0.0.1:6379/_FLUSHALL", "must start with"),
    Hostile("dict://127.0.0.1:11211/", "must start with"),
    Hostile("ldap://127.0.0.1/", "must start with"),
    Hostile("unix:///var/run/docker.sock", "must start with"),
    Hostile("javascript:alert(1)", "must start with"),
    Hostile("data:text/html,canary", "must start with"),
    # Hosts that are none
    Hostile("https://", "host"),
    Hostile("https://./", "host"),
    Hostile("https://.example.com/", "host"),
    Hostile("https://example..com/", "host"),
    Hostile("https://*.example.com/", "host"),
    Hostile(f"https://{'a' * 64}.example/", "host"),
]

# Refused for the address that they spell.
SPELLINGS = [
    Hostile("https://127.0.0.1/", "loopback", "127.0.0.1"),
    Hostile("https://127.0.0.1./", "loopback", "127.0.0.1"),
    Hostile("https://127.255.255.254/", "loopback", "127.255.255.254"),
    Hostile("https://127.1/", "loopback", "127.0.0.1"),
    Hostile("https://127.0.1/", "loopback", "127.0.0.1"),
    Hostile("https://2130706433/", "loopback", "127.0.0.1"),
    Hostile("https://017700000001/", "loopback", "127.0.0.1"),
    Hostile("https://0x7f000001/", "loopback", "127.0.0.1"),
    Hostile("https://0X7F.0.0.1/", "loopback", "127.0.0.1"),
    Hostile("https://0x7f.1/", "loopback", "127.0.0.1"),
    Hostile("https://127.0.0.0x1/", "loopback", "127.0.0.1"),
    Hostile("https://127。0。0。1/", "loopback", "127.0.0.1"),
    Hostile("https://127\uff0e0\uff0e0\uff0e1/", "loopback", "127.0.0.1"),
    Hostile("https://127\uff610\uff610\uff611/", "loopback", "127.0.0.1"),
    Hostile("https://127.0.0.1#@example.com/", "loopback", "127.0.0.1"),
    Hostile("https://127.0.0.1?@example.com/", "loopback", "127.0.0.1"),
    Hostile("https://0/", "this network", "0.0.0.0"),  # noqa: S104 - nothing is bound to it
    Hostile("https://0x0.0x0/", "this network", "0.0.0.0"),  # noqa: S104
    Hostile("https://10.0.0.1/", "private", "10.0.0.1"),
    Hostile("https://172.31.255.255/", "private", "172.31.255.255"),
    Hostile("https://192.168.1.1/", "private", "192.168.1.1"),
    Hostile("https://100.64.0.1/", "shared address space", "100.64.0.1"),
    Hostile("https://198.18.0.1/", "benchmarking", "198.18.0.1"),
    Hostile("https://224.0.0.1/", "multicast", "224.0.0.1"),
    Hostile("https://255.255.255.255/", "reserved", "255.255.255.255"),
    # Metadata services: most clouds; by number; of AWS's containers and pods; Alibaba; Oracle; Azure; Tencent
    Hostile("https://169.254.169.254/latest/meta-data/", "link-local", "169.254.169.254"),
    Hostile("https://2852039166/", "link-local", "169.254.169.254"),
    Hostile("https://0xa9fea9fe/", "link-local", "169.254.169.254"),
    Hostile("https://169.254.43518/", "link-local", "169.254.169.254"),
    Hostile("https://169.254.170.2/", "link-local", "169.254.170.2"),
    Hostile("https://169.254.170.23/", "link-local", "169.254.170.23"),
    Hostile("https://100.100.100.200/", "shared address space", "100.100.100.200"),
    Hostile("https://192.0.0.192/", "protocol assignments", "192.0.0.192"),
    Hostile("https://168.63.129.16/", "metadata service", "168.63.129.16"),
    Hostile("https://169.254.0.23/", "link-local", "169.254.0.23"),
    Hostile("https://[fd00:ec2::254]/", "outside 2000::/3", "fd00:ec2::254"),
    Hostile("https://[fd20:ce::254]/", "outside 2000::/3", "fd20:ce::254"),
    Hostile("https://[fe80::a9fe:a9fe]/", "outside 2000::/3", "fe80::a9fe:a9fe"),
    # IPv6, and IPv4 within it: mapped, compatible, translated, NAT64 (RFC 6052, RFC 8215), 6to4, Teredo
    Hostile("https://[::]/", "outside 2000::/3", "::"),
    Hostile("https://[::1]/", "outside 2000::/3", "::1"),
    Hostile("https://[0:0:0:0:0:0:0:1]/", "outside 2000::/3", "::1"),
    Hostile("https://[::ffff:127.0.0.1]/", "loopback", "::ffff:127.0.0.1"),
    Hostile("https://[::ffff:7f00:1]/", "loopback", "::ffff:7f00:1"),
    Hostile("https://[0:0:0:0:0:ffff:169.254.169.254]/", "link-local", "::ffff:169.254.169.254"),
    Hostile("https://[::127.0.0.1]/", "outside 2000::/3", "::127.0.0.1"),
    Hostile("https://[::ffff:0:127.0.0.1]/", "outside 2000::/3", "::ffff:0:127.0.0.1"),
    Hostile("https://[64:ff9b::127.0.0.1]/", "outside 2000::/3", "64:ff9b::7f00:1"),
    Hostile("https://[64:ff9b::a9fe:a9fe]/", "outside 2000::/3", "64:ff9b::a9fe:a9fe"),
    Hostile("https://[64:ff9b:1::a9fe:a9fe]/", "outside 2000::/3", "64:ff9b:1::a9fe:a9fe"),
    Hostile("https://[2002:7f00:1::]/", "6to4", "2002:7f00:1::"),
    Hostile("https://[2002:a9fe:a9fe::1]/", "6to4", "2002:a9fe:a9fe::1"),
    Hostile("https://[2001:0:7f00:1::]/", "protocol assignments", "2001:0:7f00:1::"),
    Hostile("https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/", "protocol", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
    Hostile("https://[2001:db8::1]/", "documentation", "2001:db8::1"),
    Hostile("https://[fc00::1]/", "outside 2000::/3", "fc00::1"),
    Hostile("https://[fec0::1]/", "outside 2000::/3", "fec0::1"),
    Hostile("https://[ff02::1]/", "outside 2000::/3", "ff02::1"),
]

# Refused for where they lead: only a look-up can tell.
NAMES = [
    Hostile("https://localhost/", "loopback", "127.0.0.1"),
    Hostile("https://LOCALHOST./", "loopback", "127.0.0.1"),
    Hostile("https://jobmill.localhost/", "outside 2000::/3", "::1"),
    Hostile("https://localhost.localdomain/", "loopback", "127.0.0.1"),
    Hostile("https://ip6-localhost/", "outside 2000::/3", "::1"),
    Hostile("https://127.0.0.1.nip.example/", "loopback", "127.0.0.1"),
    Hostile("https://metadata.google.internal/computeMetadata/v1/", "link-local", "169.254.169.254"),
    Hostile("https://metadata/", "link-local", "169.254.169.254"),
    Hostile("https://instance-data.ec2.internal/", "outside 2000::/3", "fd00:ec2::254"),
    Hostile("https://kubernetes.default.svc/", "private", "10.96.0.1"),
    Hostile("https://host.docker.internal/", "private", "192.168.65.254"),
    Hostile("https://xn--bcher-kva.example/", "private", "10.0.0.1"),
    Hostile("https://b\u00fccher.example/", "private", "10.0.0.1"),
]

HOSTILE = [*TEXTS, *SPELLINGS, *NAMES]
