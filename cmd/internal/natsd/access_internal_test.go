package natsd

import "testing"

func TestAnEmptyTokenIsNobodys(t *testing.T) {
	if same("", "") {
		t.Error("no token lets in where there is no client token")
	}
	if !same("t", "t") || same("t", "u") || same("", "t") || same("tt", "t") {
		t.Error("tokens are not compared by their bytes")
	}
}
