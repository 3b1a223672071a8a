"""DKIM signatures, verified by python3-dkim, which shares no code with ours."""
import glob
import json
import os
import random
import subprocess

import pytest
from dkim_mail import Key, random_message, verdicts

CORPUS = os.path.join(os.path.dirname(__file__), '../../../shared/corpora/dkim/sign')


def sign(world, message, *options, code=0):
    done = subprocess.run([world.program('ringpost'), 'dkim-sign', *options], input=message,
                          capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.parametrize('kind', ['2048', 'ed25519'])
def test_signed_by_hand(world, kind):
    """Random messages in all canonical forms, and a message that is altered."""
    key = Key(world.program('ringpost'), world.path(''), kind)
    records = {'s1._domainkey.shop.example': key.record}
    rng = random.Random(6376)
    for i in range(40):
        message = random_message(rng)
        canon = rng.choice(['relaxed', 'simple']) + '/' + rng.choice(['relaxed', 'simple'])
        options = rng.choice([[], ['--time', '1700000000'], ['--identity', '@mail.shop.example'],
                              ['--oversign', 'Subject,To,Cc'], ['--body-length'],
                              ['--more-headers', 'X-Odd,Comments']])
        signed = sign(world, message, '--key', key.path, '--selector', 's1', '--domain',
                      'shop.example', '--canon', canon, *options)
        assert signed.endswith(message), 'nothing but the field is added'
        assert verdicts(signed, records) == [True], (i, canon, options, signed)
        assert verdicts(signed.replace(b'From:', b'From: x'), records) != [True]
    assert not any(secret in signed for secret in key.secrets())


def test_options_are_obeyed(world):
    key = Key(world.program('ringpost'), world.path(''), 'ed25519')
    base = ['--key', key.path, '--selector', 's1', '--domain', 'shop.example']
    message = b'From: a@shop.example\nSubject: x\n\nbody\nmore\n'
    field = sign(world, message, *base, '--time', '17', '--expires', '4000000000', '--query',
                 'dns/txt', '--body-limit', '6', '--headers', 'subject,from,Subject',
                 '--field-only').replace(b'\r\n', b'')
    for part in (b't=0000000017;', b'x=4000000000;', b'q=dns/txt;', b'l=0000000006;',
                 b'h=subject:from:Subject;', b'a=ed25519-sha256;', b'c=relaxed/relaxed;'):
        assert part in field, field
    whole = sign(world, message, *base, '--body-limit', '6')
    assert verdicts(whole + b'added', {'s1._domainkey.shop.example': key.record}) == [True]
    assert b'rsa-sha1' in sign(world, message, *base, '--algorithm', 'rsa-sha1', code=1)
    assert b'i= is not' in sign(world, message, *base, '--identity', '@else.example', code=1)
    assert b'From' in sign(world, message, *base, '--headers', 'subject', code=1)
    sign(world, message, '--key', key.path, '--nonsense', code=2)
    os.chmod(key.path, 0o640)
    refusal = sign(world, message, *base, code=1)
    assert b'chmod 600' in refusal
    assert not any(secret in refusal for secret in key.secrets())


def test_vectors(world):
    """Step three of the corpus: the field is built by us, and verified by python3-dkim."""
    if not os.path.isdir(CORPUS):
        pytest.skip(f'no vectors at {CORPUS}')
    signed_count = 0
    for path in sorted(glob.glob(CORPUS + '/*.json')):
        vector = json.load(open(path, encoding='utf-8'))
        # python3-dkim wants no blank in front of a colon.
        if vector['algorithm'] == 'rsa-sha1' or 'error' in vector['expected'] or \
           any(' :' in field.split(':')[0] + ':' for field in vector['headers']):
            continue
        key_path = world.path('vector.key')
        with open(key_path, 'w', encoding='ascii') as file:
            file.write(vector.get('private_key_pem') or vector['private_key_seed_base64'])
        os.chmod(key_path, 0o600)
        message = ''.join(field + '\r\n' for field in vector['headers']) + '\r\n' + \
            ''.join(vector['body_chunks'])
        options = ['--key', key_path, '--selector', vector['selector'], '--domain',
                   vector['domain'], '--canon',
                   f"{vector['canon_header']}/{vector['canon_body']}", '--headers',
                   ','.join(vector['expected']['signed_headers']), '--algorithm',
                   vector['algorithm'], '--time', str(vector['time'])]
        if vector.get('identity'):
            options += ['--identity', vector['identity']]
        record = sign(world, b'', '--key', key_path, '--record').strip()
        signed = sign(world, message.encode(), *options)
        name = f"{vector['selector']}._domainkey.{vector['domain']}"
        assert verdicts(signed, {name: record}) == [True], (path, signed)
        bh = vector['expected']['bh']
        assert f'bh={bh};'.encode() in signed, path
        signed_count += 1
    assert signed_count >= 10
