package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// ErrUnreachable wraps every failure to reach lockstepd at all.
var ErrUnreachable = errors.New("lockstepd cannot be reached")

// ClaimHeader is the header with [Client].Claim.
const ClaimHeader = "Lockstep-Claim"

// Client calls the admin API. It is safe for concurrent use.
type Client struct {
	Base  string // Base is such as "http://127.0.0.1:18080".
	Token string // Token is sent with each request, unless it is empty.
	// Claim is who the caller says that he is, such as root@host. It is sent with what changes
	// something, and shown as a claim beside the name that the token has.
	Claim string
	HTTP  *http.Client
}

// Status returns how the control plane is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Problems returns what is not well at this replica alone.
func (c *Client) Problems(ctx context.Context) (p Problems, err error) {
	return p, c.call(ctx, http.MethodGet, "/v1/problems", nil, &p)
}

// Acknowledge says that an operator knows about the problems of a code.
func (c *Client) Acknowledge(ctx context.Context, code string, r AckRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/problems/"+url.PathEscape(code)+"/ack", r, nil)
}

// Pulse returns how this replica is.
func (c *Client) Pulse(ctx context.Context) (p Pulse, err error) {
	return p, c.call(ctx, http.MethodGet, "/v1/pulse", nil, &p)
}

// Nodes lists the fleet, or if node is set that node with all its secrets.
func (c *Client) Nodes(ctx context.Context, node string) (n Nodes, err error) {
	path := "/v1/nodes"
	if node != "" {
		path += "?node=" + url.QueryEscape(node)
	}
	return n, c.call(ctx, http.MethodGet, path, nil, &n)
}

// AllNodes is Nodes with those that were here or should be, and are not.
func (c *Client) AllNodes(ctx context.Context, node string) (n Nodes, err error) {
	v := url.Values{"all": {""}}
	if node != "" {
		v.Set("node", node)
	}
	return n, c.call(ctx, http.MethodGet, "/v1/nodes?"+v.Encode(), nil, &n)
}

// ForgetNode takes a gone node off the list.
func (c *Client) ForgetNode(ctx context.Context, node string) error {
	return c.call(ctx, http.MethodDelete, "/v1/nodes/"+url.PathEscape(node), nil, nil)
}

// Troubles returns those of the nodes that are connected to this replica.
func (c *Client) Troubles(ctx context.Context) (t Troubles, err error) {
	return t, c.call(ctx, http.MethodGet, "/v1/troubles", nil, &t)
}

// NodesQuery chooses a node by its id, or the nodes that have asked for a certificate, with that
// alone.
type NodesQuery struct{ Node, Cert string }

// NodesHere lists the nodes that are connected to this replica.
func (c *Client) NodesHere(ctx context.Context, q NodesQuery) (n Nodes, err error) {
	v := url.Values{"here": {""}}
	if q.Node != "" {
		v.Set("node", q.Node)
	}
	if q.Cert != "" {
		v.Set("cert", q.Cert)
	}
	return n, c.call(ctx, http.MethodGet, "/v1/nodes?"+v.Encode(), nil, &n)
}

// Explain returns which certificate a server name gets, and why.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (e Explanation, err error) {
	v := url.Values{"name": {q.Name}}
	if q.Node != "" {
		v.Set("node", q.Node)
	}
	if q.Identity != "" {
		v.Set("identity", q.Identity)
	}
	return e, c.call(ctx, http.MethodGet, "/v1/explain?"+v.Encode(), nil, &e)
}

// Rotate brings a new key into use. It returns at once, see [Client.Rotation] for the progress.
func (c *Client) Rotate(ctx context.Context, scope string, r RotateRequest) (s Started, err error) {
	return s, c.call(ctx, http.MethodPost, scoped(scope, "rotate"), r, &s)
}

// Burn replaces every key of the scope. It returns at once.
func (c *Client) Burn(ctx context.Context, scope string, r RotateRequest) (s Started, err error) {
	return s, c.call(ctx, http.MethodPost, scoped(scope, "burn"), r, &s)
}

// Rollback undoes the newest change of the scope's keys. It returns at once.
func (c *Client) Rollback(ctx context.Context, scope string, r RotateRequest) (s Started, err error) {
	return s, c.call(ctx, http.MethodPost, scoped(scope, "rollback"), r, &s)
}

// Exclude lets rollouts go on without a node.
func (c *Client) Exclude(ctx context.Context, scope string, r ExcludeRequest) error {
	return c.call(ctx, http.MethodPost, scoped(scope, "exclude"), r, nil)
}

// Rotation returns how rotation n of a scope stands.
func (c *Client) Rotation(ctx context.Context, scope string, n uint64) (r Rotation, err error) {
	return r, c.call(ctx, http.MethodGet, scoped(scope, fmt.Sprintf("rotations/%d", n)), nil, &r)
}

// History returns the lines of a scope, the oldest first.
func (c *Client) History(ctx context.Context, scope string) (h History, err error) {
	return h, c.call(ctx, http.MethodGet, scoped(scope, "history"), nil, &h)
}

// Plan returns what a rotation would do.
func (c *Client) Plan(ctx context.Context, scope string) (p Plan, err error) {
	return p, c.call(ctx, http.MethodGet, scoped(scope, "plan"), nil, &p)
}

// Certs lists a page of certificates by name.
func (c *Client) Certs(ctx context.Context, q CertsQuery) (l Certs, err error) {
	v := url.Values{}
	set := func(key, val string) {
		if val != "" && val != "0" {
			v.Set(key, val)
		}
	}
	set("prefix", q.Prefix)
	set("after", q.After)
	set("limit", strconv.Itoa(q.Limit))
	if q.Expires != nil {
		v.Set("expires_within", q.Expires.String())
	}
	return l, c.call(ctx, http.MethodGet, "/v1/certs?"+v.Encode(), nil, &l)
}

// ImportCerts stores the certificates of a small archive.
func (c *Client) ImportCerts(ctx context.Context, archive io.Reader) (i Imported, err error) {
	return i, c.call(ctx, http.MethodPost, "/v1/certs/import", archive, &i)
}

// Cert returns one certificate with its chain.
func (c *Client) Cert(ctx context.Context, name string) (r Cert, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/certs/"+url.PathEscape(name), nil, &r)
}

// PutCert stores a certificate.
func (c *Client) PutCert(ctx context.Context, name string, p PutCert) (r Cert, err error) {
	return r, c.call(ctx, http.MethodPut, "/v1/certs/"+url.PathEscape(name), p, &r)
}

// RemoveCert removes a certificate from the store.
func (c *Client) RemoveCert(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/certs/"+url.PathEscape(name), nil, nil)
}

// ConfirmLoss gives up the names that are held back because too many left the directory at once.
func (c *Client) ConfirmLoss(ctx context.Context) (l Losses, err error) {
	return l, c.call(ctx, http.MethodPost, "/v1/certs/confirm-loss", nil, &l)
}

// Watch calls f with each line that happens until ctx ends, f fails or the connection breaks.
// The lines are those of all replicas.
func (c *Client) Watch(ctx context.Context, f func(Line) error) error {
	return c.watch(ctx, "/v1/events", func() {}, f)
}

// WatchHere is Watch of what happens at this replica alone. It calls begun once lines will come.
func (c *Client) WatchHere(ctx context.Context, begun func(), f func(Line) error) error {
	return c.watch(ctx, "/v1/events?here", begun, f)
}

func (c *Client) watch(ctx context.Context, path string, begun func(), f func(Line) error) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	begun()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 { // keep-alive
			continue
		}
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("an event that cannot be read: %w", err)
		}
		if err := f(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: the stream of events broke: %v", ErrUnreachable, err)
	}
	return ctx.Err()
}

func scoped(scope, what string) string { return "/v1/scopes/" + url.PathEscape(scope) + "/" + what }

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: an answer that cannot be read: %w", method, path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body, raw := in.(io.Reader)
	if in != nil && !raw {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Base, "/")+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if raw {
		req.Header.Set("Content-Type", "application/x-ndjson")
		req.Header.Set("Expect", "100-continue")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.Claim != "" && method != http.MethodGet {
		req.Header.Set(ClaimHeader, c.Claim)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		next := "is it running? (--server or --data-dir names another)"
		if strings.HasPrefix(c.Base, "https:") {
			next = "is it running, and are --tls-ca, --tls-cert and --tls-key right? It lets nobody in without a " +
				"client certificate"
		}
		return nil, fmt.Errorf("%w at %s: %v: %s", ErrUnreachable, c.Base, errors.Unwrap(err), next)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e Error
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&e) != nil || e.Message == "" {
		e = Error{Message: fmt.Sprintf("%s %s: HTTP %s", method, path, resp.Status), Code: Failed}
	}
	return nil, &e
}
