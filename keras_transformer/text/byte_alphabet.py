"""GPT-2's alphabet: a printable character for each byte, so that pieces can be written in files."""


def _alphabet() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [
        chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256)
    ]


CHARACTERS = _alphabet()  # by byte
BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def spell(data: bytes) -> str:
    """Write bytes in the alphabet.

    Example:
        >>> spell("é x".encode())
        'Ã©Ġx'
    """
    return "".join(map(CHARACTERS.__getitem__, data))
