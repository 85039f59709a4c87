// The page that the gateway serves at /: GraphiQL with the examples, and one field for the caller's key or token.
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import "graphiql/graphiql.css";
import { createClient } from "graphql-ws";
import React, { useMemo, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { examples } from "./examples.js";
import "./playground.css";

const STORED_AS = "elis.credential";
const url = new URL("/graphql", window.location.href);
const socketUrl = new URL(url);
socketUrl.protocol = url.protocol === "https:" ? "wss:" : "ws:";

// Kept for this browser tab only.
function recall() {
  return window.sessionStorage.getItem(STORED_AS) ?? "";
}

function authorization(credential) {
  return credential.trim() ? { authorization: `Bearer ${credential.trim().replace(/^Bearer\s+/i, "")}` } : {};
}

function Playground() {
  const [text, setText] = useState(recall);
  // Changes when another caller's schema has to be read.
  const [caller, setCaller] = useState(recall);
  const current = useRef(text);

  function remember(value) {
    current.current = value;
    window.sessionStorage.setItem(STORED_AS, value);
    setText(value);
  }

  function change(value) {
    remember(value);
    if (value.length >= 20) setCaller(value);
  }

  const fetcher = useMemo(() => {
    async function send(target, options) {
      const response = await window.fetch(target, { ...options, headers: { ...authorization(current.current), ...options.headers } });
      const answer = await response.clone().json().catch(() => null);
      const tokens = answer?.data?.login?.tokens ?? answer?.data?.refresh;
      if (tokens?.accessToken) remember(tokens.accessToken);
      return response;
    }
    return createGraphiQLFetcher({
      url: url.href,
      fetch: send,
      wsClient: createClient({ url: socketUrl.href, lazy: true, retryAttempts: 3, connectionParams: () => authorization(current.current) }),
    });
  }, []);

  return (
    <>
      <form
        className="elis-caller"
        autoComplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          setCaller(text);
        }}
      >
        <strong>ELIS</strong>
        <label htmlFor="credential">API key or access token</label>
        <input id="credential" type="password" autoComplete="off" spellCheck={false} placeholder="elis_…" value={text} onChange={(event) => change(event.target.value)} />
        <span>
          <code>elis up</code> writes it as <code>admin_api_key</code> into <code>credentials.json</code> of its data folder. Other clients send it as{" "}
          <code>Authorization: Bearer elis_…</code>.
        </span>
      </form>
      <div className="elis-graphiql">
        <GraphiQL
          key={caller}
          // Nobody sees the schema without saying who they are.
          schema={caller ? undefined : null}
          fetcher={fetcher}
          defaultTabs={examples.map(({ query, variables }) => ({ query, variables }))}
          defaultEditorToolsVisibility="variables"
          shouldPersistHeaders={false}
        />
      </div>
    </>
  );
}

createRoot(document.getElementById("root")).render(<Playground />);
