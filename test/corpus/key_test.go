package corpus

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
)

// key is a private key as it is configured (a PEM block), and its SubjectPublicKeyInfo.
type key struct {
	pem    []byte
	spki   []byte
	signer crypto.Signer // signer is nil for keys that Go cannot use
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keyOf(signer crypto.Signer) key {
	return key{block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(signer))),
		must(x509.MarshalPKIXPublicKey(signer.Public())), signer}
}

func ecKey(curve elliptic.Curve) key { return keyOf(must(ecdsa.GenerateKey(curve, rand.Reader))) }

func edKey() key {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return keyOf(must(k, err))
}

// numbers are those of an RSA key, as PKCS#1 writes them.
type numbers struct {
	n, e, d *big.Int
	primes  []*big.Int
}

// rsaNumbers makes a key of a size for an exponent from so many primes.
func rsaNumbers(size, primes int, e int64) numbers {
	for {
		k := numbers{n: big.NewInt(1), e: big.NewInt(e)}
		for i := range primes {
			k.primes = append(k.primes, must(rand.Prime(rand.Reader, size*(i+1)/primes-size*i/primes)))
			k.n.Mul(k.n, k.primes[i])
		}
		if k.n.BitLen() == size && k.invert() {
			return k
		}
	}
}

// coarse makes a key that is too large to find primes for. Its factors are odd numbers, which
// parsers do not notice.
func coarse(size int) numbers {
	for {
		k := numbers{n: big.NewInt(1), e: big.NewInt(65537)}
		for range 2 {
			p := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(size/2-2))))
			p.Or(p, big.NewInt(1)).SetBit(p, size/2-1, 1).SetBit(p, size/2-2, 1)
			k.primes = append(k.primes, p)
			k.n.Mul(k.n, p)
		}
		if new(big.Int).GCD(nil, nil, k.primes[0], k.primes[1]).IsInt64() && k.invert() {
			return k
		}
	}
}

func (k *numbers) invert() bool {
	phi := big.NewInt(1)
	for _, p := range k.primes {
		phi.Mul(phi, less(p))
	}
	k.d = new(big.Int).ModInverse(k.e, phi)
	return k.d != nil
}

func less(p *big.Int) *big.Int { return new(big.Int).Sub(p, big.NewInt(1)) }

// pkcs1 writes RSAPrivateKey and RSAPublicKey (RFC 8017, appendix A.1).
func (k numbers) pkcs1() (private, public []byte) {
	p, q := k.primes[0], k.primes[1]
	inverse := new(big.Int).ModInverse(q, p)
	if inverse == nil {
		inverse = big.NewInt(1)
	}
	parts := [][]byte{small(int64(len(k.primes) - 2)), number(k.n), number(k.e), number(k.d), number(p), number(q),
		number(new(big.Int).Mod(k.d, less(p))), number(new(big.Int).Mod(k.d, less(q))), number(inverse)}
	if len(k.primes) > 2 {
		parts[0] = small(1)
		before := new(big.Int).Mul(p, q)
		var others [][]byte
		for _, r := range k.primes[2:] {
			others = append(others, seq(number(r), number(new(big.Int).Mod(k.d, less(r))),
				number(new(big.Int).ModInverse(before, r))))
			before.Mul(before, r)
		}
		parts = append(parts, seq(others...))
	}
	return seq(parts...), seq(number(k.n), number(k.e))
}

var rsaAlgorithm = seq(oid("1.2.840.113549.1.1.1"), null)

func (k numbers) key() key {
	private, public := k.pkcs1()
	return key{
		pem:  block("PRIVATE KEY", seq(small(0), rsaAlgorithm, tlv(tagOctets, private))),
		spki: seq(rsaAlgorithm, bits(public)),
	}
}

// older is the same key as PKCS#1.
func (k numbers) older() key {
	out := k.key()
	private, _ := k.pkcs1()
	out.pem = block("RSA PRIVATE KEY", private)
	return out
}

// rsaKey is a key of a CA.
func rsaKey(size int) key { return keyOf(must(rsa.GenerateKey(rand.Reader, size))) }

//go:embed testdata/rsa8192.pem
var largest []byte

func largestRSA() key {
	p, _ := pem.Decode(largest)
	return keyOf(must(x509.ParsePKCS8PrivateKey(p.Bytes)).(crypto.Signer))
}

// foreign makes a key by openssl genpkey, of a kind that Go does not know.
func foreign(arguments ...string) (key, error) {
	private, err := openssl(nil, append([]string{"genpkey", "-outform", "DER"}, arguments...)...)
	if err != nil {
		return key{}, err
	}
	public, err := openssl(private, "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
	return key{pem: block("PRIVATE KEY", private), spki: public}, err
}

func openssl(in []byte, arguments ...string) ([]byte, error) {
	cmd := exec.CommandContext(context.Background(), "openssl", arguments...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("openssl %v: %w", arguments, err)
	}
	return out, nil
}
