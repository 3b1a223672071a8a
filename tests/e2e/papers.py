"""Certificates and keys for tests, made by openssl in a folder."""
import os
import subprocess


class Papers:
    """One authority, and certificates by it."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.authority = self.path('authority.pem')
        self.openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
                     '-nodes', '-keyout', self.path('authority.key'), '-out', self.authority,
                     '-subj', '/CN=Authority of tests', '-days', '30')

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        done = subprocess.run(['openssl', *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'{words}: {done.stderr}'
        return done.stdout

    def make(self, name, password=None, bundle=True):
        """A certificate for the name and its key, in one file; its path."""
        key, wish, paper = (self.path(f'{name}.{kind}') for kind in ('key', 'csr', 'crt'))
        self.openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                     '-keyout', key, '-out', wish, '-subj', f'/CN={name}',
                     '-addext', f'subjectAltName=DNS:{name}')
        self.openssl('x509', '-req', '-in', wish, '-CA', self.authority, '-CAkey',
                     self.path('authority.key'), '-CAcreateserial', '-out', paper, '-days', '30',
                     '-copy_extensions', 'copy')
        if password:
            self.openssl('pkcs8', '-topk8', '-in', key, '-out', key + '8', '-passout',
                         f'pass:{password}')
            os.replace(key + '8', key)
        if bundle:
            self.join(name + '.pem', paper, key)
        return self.path(name + '.pem')

    def join(self, name, *parts):
        """The files one behind the other; the path."""
        path = self.path(name)
        with open(path, 'w', encoding='ascii') as out:
            for part in parts:
                with open(part, encoding='ascii') as text:
                    out.write(text.read())
        os.chmod(path, 0o600)
        return path
