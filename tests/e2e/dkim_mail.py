"""Keys, records, random messages and python3-dkim's verdict: for the tests of DKIM signing."""
import base64
import os
import subprocess

import dkim

WORDS = ['offer', 'a', 'http://shop.example/?q=1', 'x' * 300, 'ä'.encode(), b'\xff\xfe', '.', '..',
         '-- ', '=20', 'From ', '\t', '  ']


def octets(word):
    return word if isinstance(word, bytes) else word.encode()


class Key:
    """A private key in a file, and the record that ringpost says belongs to it."""

    def __init__(self, program, folder, kind, name=None):
        self.path = os.path.join(folder, (name or kind) + '.pem')
        options = ['-algorithm', 'ed25519'] if kind == 'ed25519' else \
                  ['-algorithm', 'RSA', '-pkeyopt', f'rsa_keygen_bits:{kind}']
        subprocess.run(['openssl', 'genpkey', '-out', self.path, *options], check=True,
                       stderr=subprocess.DEVNULL)
        os.chmod(self.path, 0o600)
        self.record = subprocess.run([program, 'dkim-sign', '--key', self.path, '--record'],
                                     check=True, capture_output=True).stdout.strip()
        self.openssl_record(kind)

    def openssl_record(self, kind):
        """The same from OpenSSL, which knows nothing of ours."""
        der = subprocess.run(['openssl', 'pkey', '-in', self.path, '-pubout', '-outform', 'DER'],
                             check=True, capture_output=True).stdout
        public = der[-32:] if kind == 'ed25519' else der
        assert self.record.endswith(b'p=' + base64.b64encode(public)), self.record

    def secrets(self):
        """Lines of it that nothing may ever show."""
        lines = open(self.path, encoding='ascii').read().split('\n')[1:-2]
        return [line.encode() for line in lines]


def random_line(rng):
    line = b' '.join(octets(rng.choice(WORDS)) for _ in range(rng.randrange(8)))
    return line[:990] + rng.choice([b'', b'', b' ', b'\t '])


def random_field(rng, name):
    value = b' '.join(octets(rng.choice(WORDS[:6] + WORDS[9:]))[:60] for _ in
                      range(rng.randrange(1, 6)))
    fold = rng.choice([b' ', b'\r\n ', b'\r\n\t', b'  '])
    return name + rng.choice([b':', b': ', b':\t']) + value + fold + b'end\r\n'


def random_message(rng, sender=b'news@mail.shop.example'):
    """A message with CRLF lines: 8-bit, long lines, empty bodies, odd and repeated fields."""
    names = [b'Subject', b'X-Odd', b'List-Unsubscribe', b'List-Unsubscribe-Post', b'to', b'CC',
             b'Date', b'Message-ID', b'X', b'MIME-Version', b'Comments', b'Reply-To', b'Subject']
    rng.shuffle(names)
    fields = [random_field(rng, name) for name in names[:rng.randrange(len(names))]]
    fields.insert(rng.randrange(len(fields) + 1), b'From: Shop <' + sender + b'>\r\n')
    lines = [random_line(rng) for _ in range(rng.choice([0, 0, 1, 3, 20]))]
    lines += [b''] * rng.choice([0, 0, 1, 5])
    return b''.join(fields) + b'\r\n' + b''.join(line + b'\r\n' for line in lines)


def verdicts(message, records):
    """python3-dkim's answer for each signature; records: {"s._domainkey.d": record}."""
    def lookup(name, timeout=5):
        return records.get(name.decode().rstrip('.').lower())

    count = message.lower().split(b'\r\n\r\n', 1)[0].count(b'dkim-signature:')
    found = []
    for i in range(count):
        try:
            found.append(dkim.DKIM(message, minkey=1024).verify(idx=i, dnsfunc=lookup))
        except (dkim.DKIMException, ValueError) as failure:
            found.append(repr(failure))
    return found
