package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Tokens is GET /v1/tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"` // Tokens are sorted by name.
}

// Token is what is known of an operator's token. The token itself is not kept.
type Token struct {
	Name string `json:"name"`
	Role string `json:"role"` // Role is read, operate or admin.
	// Scope is the only scope in which the role operate counts. Without one it counts in all.
	Scope   string     `json:"scope,omitempty"`
	Made    time.Time  `json:"made"`
	By      string     `json:"by"`
	Expires *time.Time `json:"expires,omitempty"`
	// State is good, expired or unusable.
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"` // Problem says why it is unusable.
}

// NewToken is POST /v1/tokens.
type NewToken struct {
	Name  string `json:"name"`
	Role  string `json:"role"`
	Scope string `json:"scope,omitempty"`
	// Seconds is how long the token counts. With 0 it has no end.
	Seconds float64 `json:"seconds,omitempty"`
}

// TokenMade answers POST /v1/tokens. Secret is the token, which is shown this once.
type TokenMade struct {
	Token
	Secret string `json:"token"`
}

// Tokens lists the tokens of operators.
func (c *Client) Tokens(ctx context.Context) (t Tokens, err error) {
	return t, c.call(ctx, http.MethodGet, "/v1/tokens", nil, &t)
}

// NewToken makes a token.
func (c *Client) NewToken(ctx context.Context, q NewToken) (t TokenMade, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/tokens", q, &t)
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(name), nil, nil)
}
