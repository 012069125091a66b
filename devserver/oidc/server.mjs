// The OpenID provider of the tests: npm's certified oidc-provider, on 127.0.0.1.
//
// It is started in a directory with config.json (see oidcConfig in oidc.go),
// jwks.json (the signing keys) and a link node_modules. Clients and opaque tokens
// are kept in records.jsonl there, so they outlive a restart. SIGHUP reads keys
// and configuration anew.
//
// Besides what the standards have, the token endpoint knows a grant made for
// tests, which gives out a token about anybody: see `anybody` below.
import { createServer as http } from 'node:http';
import { createServer as https } from 'node:https';
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import Provider, { errors } from 'oidc-provider';

const grant = 'urn:bindery:grant-type:anybody';
const now = () => Math.floor(Date.now() / 1000);
const read = (name) => JSON.parse(readFileSync(name, 'utf8'));

// Records: a line for each change, the last one of a key counts. A line without a payload removes.
const file = 'records.jsonl';
const records = new Map();
for (const line of existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []) {
	let record;
	try {
		record = JSON.parse(line);
	} catch {
		continue; // a kill cut it short, so it was not acknowledged
	}
	if (record.payload && !(record.expires <= now())) {
		records.set(record.key, record);
	} else {
		records.delete(record.key);
	}
}
writeFileSync(`${file}.tmp`, [...records.values()].map((r) => `${JSON.stringify(r)}\n`).join(''), { mode: 0o600 });
renameSync(`${file}.tmp`, file);

class Adapter {
	constructor(model) { this.model = model; }
	key(id) { return `${this.model}:${id}`; }
	write(record) {
		appendFileSync(file, `\n${JSON.stringify(record)}\n`); // begins a line, whatever a kill has left
		if (record.payload) records.set(record.key, record); else records.delete(record.key);
	}
	async upsert(id, payload, expiresIn) {
		this.write({ key: this.key(id), payload, expires: expiresIn ? now() + expiresIn : undefined });
	}
	async find(id) {
		const record = records.get(this.key(id));
		return record && !(record.expires <= now()) ? structuredClone(record.payload) : undefined;
	}
	async by(field, value) {
		for (const { key, payload } of records.values()) {
			if (key.startsWith(`${this.model}:`) && payload[field] === value) return structuredClone(payload);
		}
		return undefined;
	}
	async findByUid(uid) { return this.by('uid', uid); }
	async findByUserCode(code) { return this.by('userCode', code); }
	async consume(id) {
		const record = records.get(this.key(id));
		if (record) this.write({ ...record, payload: { ...record.payload, consumed: now() } });
	}
	async destroy(id) { this.write({ key: this.key(id) }); }
	// A removed client's tokens go with it, as RFC 7592 (section 2.3) asks of a server.
	forget(clientId) {
		for (const { key, payload } of [...records.values()]) {
			if (payload.clientId === clientId) this.write({ key });
		}
	}
	async revokeByGrantId(grantId) {
		for (const { key, payload } of [...records.values()]) {
			if (payload.grantId === grantId) this.write({ key });
		}
	}
}

// anybody answers with an access token (a JWT, RFC 9068) and an ID token about `subject`, with `claims` (JSON).
// `audience` is the access token's; the ID token's is the client. `lifetime` is in seconds. `alg` signs the
// access token. `use` may be `logout`: then the ID token is a logout token.
async function anybody(ctx, next) {
	const { client, params, provider } = ctx.oidc;
	const claims = JSON.parse(params.claims || '{}');
	const lifetime = Number(params.lifetime || 3600);
	if (!params.subject) throw new errors.InvalidRequest('subject is missing');

	const access = new provider.AccessToken({ accountId: params.subject, client, expiresIn: lifetime, gty: grant });
	access.resourceServer = new provider.ResourceServer(params.audience || client.clientId, {
		scope: '', accessTokenFormat: 'jwt', jwt: { sign: { alg: params.alg || 'RS256' } },
	});
	ctx.oidc.entity('AccessToken', access); // extraTokenClaims is told of the request then
	const id = new provider.IdToken({ sub: params.subject }, { ctx });
	id.scope = 'openid';
	Object.entries(claims).forEach(([name, value]) => id.set(name, value));
	ctx.body = {
		access_token: await access.save(),
		id_token: await id.issue({ use: params.use || 'idtoken', expiresAt: now() + lifetime }),
		token_type: 'Bearer',
		expires_in: lifetime,
	};
	await next();
}

function provider() {
	const config = read('config.json');
	const p = new Provider(config.issuer, {
		adapter: Adapter,
		jwks: read('jwks.json'),
		cookies: { keys: [config.client_secret] },
		clients: [{
			client_id: config.client_id,
			client_secret: config.client_secret,
			grant_types: ['client_credentials', grant],
			redirect_uris: [],
			response_types: [],
		}],
		extraTokenClaims: (ctx) => (ctx.oidc.params.claims ? JSON.parse(ctx.oidc.params.claims) : undefined),
		scopes: ['openid', 'offline_access', 'read', 'write'],
		ttl: { AccessToken: 3600, ClientCredentials: 3600, IdToken: 3600 },
		features: {
			devInteractions: { enabled: false },
			clientCredentials: { enabled: true },
			introspection: { enabled: true },
			revocation: { enabled: true },
			registration: { enabled: true, initialAccessToken: config.initial_access_token },
			registrationManagement: { enabled: true },
			resourceIndicators: {
				enabled: true,
				defaultResource: () => undefined,
				getResourceServerInfo: (ctx, resource) => ({
					audience: resource, scope: 'read write', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
				}),
			},
		},
	});
	p.on('registration_delete.success', (ctx, client) => new Adapter('').forget(client.clientId));
	p.on('server_error', (ctx, err) => console.error(err));
	p.registerGrantType(grant, anybody, ['subject', 'claims', 'audience', 'lifetime', 'alg', 'use']);
	return { config, handle: p.callback() };
}

let current = provider();
process.on('SIGHUP', () => { current = provider(); });

const handle = (req, res) => current.handle(req, res);
const { config: { port, tls } } = current;
const server = tls
	? https({ cert: readFileSync(tls.CertFile), key: readFileSync(tls.KeyFile) }, handle)
	: http(handle);
server.on('error', (err) => {
	console.error(err.code === 'EADDRINUSE' ? 'Address already in use' : err);
	process.exit(1);
});
server.listen(port, '127.0.0.1');
