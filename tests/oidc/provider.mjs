// A real OIDC provider for the tests: oidc-provider with its storage in memory. Prints its issuer.
//
// Its users log in by a form at /interaction/UID: `login` is their subject, `factor` what they
// showed (`pwd` or `otp`). Access tokens are JWTs for the resource that is asked for: the parameters
// of its query say how they are signed (`alg`) and how long they live (`ttl`, seconds).
//   POST /test/rotate?keep=1   makes new keys, and leaves the old ones published
//   POST /test/rotate?keep=0   publishes the new ones only
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';

const KINDS = [
  ['ES256', 'ec', { namedCurve: 'P-256' }],
  ['RS256', 'rsa', { modulusLength: 2048 }],
  ['PS256', 'rsa', { modulusLength: 2048 }],
  ['EdDSA', 'ed25519', {}],
  ['RS512', 'rsa', { modulusLength: 2048 }],
];

function newKeys() {
  return KINDS.map(([alg, kind, options]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: randomUUID(),
  }));
}

function resourceInfo(_ctx, resource) {
  const asked = new URL(resource);
  return {
    scope: 'query',
    audience: asked.origin,
    accessTokenFormat: 'jwt',
    accessTokenTTL: Number(asked.searchParams.get('ttl') ?? 600),
    jwt: { sign: { alg: asked.searchParams.get('alg') ?? 'ES256' } },
  };
}

function build(issuer, keys) {
  const client = (id) => ({
    client_id: id,
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  });
  return new Provider(issuer, {
    clients: [client('notebook'), client('elsewhere')],
    jwks: { keys },
    cookies: { keys: ['of the tests'] },
    scopes: ['openid', 'query'],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceInfo },
    },
    interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
    // RFC 9068, section 2.2.1: how the user logged in is in the token.
    extraTokenClaims: (ctx) => {
      const code = ctx.oidc.entities.AuthorizationCode;
      return code && { acr: code.acr, amr: code.amr };
    },
  });
}

async function interact(provider, request, response, form) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    const factors = form.get('factor') === 'otp' ? ['pwd', 'otp'] : ['pwd'];
    const acr = factors.length > 1 ? 'urn:example:mfa' : 'urn:example:pwd';
    const login = { accountId: form.get('login'), acr, amr: factors };
    return provider.interactionFinished(request, response, { login });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid query');
  grant.addResourceScope(params.resource, 'query');
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return new URLSearchParams(Buffer.concat(parts).toString());
}

let issuer;
let keys = newKeys();
let provider;
const server = createServer(async (request, response) => {
  try {
    const url = new URL(request.url, issuer);
    if (url.pathname === '/test/rotate') {
      const kept = url.searchParams.get('keep') === '1' ? keys : [];
      keys = newKeys();
      provider = build(issuer, [...keys, ...kept]);
      response.end('rotated');
    } else if (url.pathname.startsWith('/interaction/')) {
      await interact(provider, request, response, await body(request));
    } else {
      await provider.callback()(request, response);
    }
  } catch (error) {
    response.statusCode = error instanceof errors.OIDCProviderError ? 400 : 500;
    response.end(String(error));
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  provider = build(issuer, keys);
  console.log(`issuer ${issuer}`);
});
