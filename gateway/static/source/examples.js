// The tabs of the playground. tests/gateway/test_playground.py runs every one of them against the schema.
export const examples = [
  {
    name: "latest errors",
    query: `# The latest errors of all systems.
# Every tab runs as it stands:
# paste an API key above, press Ctrl-Enter.
query LatestErrors {
  events(filter: { minSeverity: ERROR }, first: 20) {
    edges {
      cursor
      node {
        id
        timestamp
        system
        source
        service
        host
        severity
        body
        attributes
      }
    }
    pageInfo { hasNextPage endCursor }
    totalCount
    asOf
    lagSeconds
    degraded
  }
}
`,
  },
  {
    name: "histogram and facets",
    query: `# How many events there are over time,
# and what their most frequent values are.
query Overview {
  histogram(filter: { last: "24h" }, splitBy: SYSTEM) {
    interval
    total
    buckets { start count split { value count } }
  }
  facets(
    filter: { last: "24h" }
    fields: ["system", "service", "host", "severityText"]
    size: 5
  ) {
    facets { field other values { value count } }
  }
}
`,
  },
  {
    name: "patterns",
    query: `# What the lines have in common,
# with the number of the newest line of each kind.
query Patterns {
  patterns(filter: { last: "24h" }, size: 15) {
    total
    patterns {
      template
      count
      share
      sparkline
      sampleEventId
      fingerprints
    }
  }
}
`,
  },
  {
    name: "incidents",
    query: `# What happened, what caused it, and the lines that prove it.
query Incidents {
  incidents(first: 3) {
    edges {
      node {
        number
        title
        state
        severity
        systems
        startedAt
        causes {
          rank
          system
          service
          summary
          score
          evidence { eventId timestamp source severityText body }
        }
        timeline { at kind system text }
      }
    }
  }
}
`,
  },
  {
    name: "statistics",
    query: `# Counts of the last day per system, from the roll-ups.
query Statistics {
  statistics(range: { last: "24h" }, groupBy: SYSTEM) {
    total { events errors errorRate eventsPerSecond }
    groups {
      key
      events
      errors
      errorRate
      points { start events errors }
    }
    asOf
    lagSeconds
  }
}
`,
  },
  {
    name: "ingest",
    query: `# Stores two events. Run it again: nothing is added,
# they count as duplicates.
mutation Ingest($events: [EventInput!]!) {
  ingest(
    source: "playground"
    system: "application"
    environment: "test"
    events: $events
    idempotencyKey: "playground-1"
  ) {
    accepted
    duplicates
    rejected
  }
}
`,
    variables: JSON.stringify(
      {
        events: [
          { body: "order 4711 accepted", severity: "INFO", service: "shop", attributes: { order: 4711 } },
          { body: "order 4712 failed: payment timed out after 30 s", severity: "ERROR", service: "shop", attributes: { order: 4712 } },
        ],
      },
      null,
      2,
    ),
  },
  {
    name: "tail",
    query: `# Events as they are stored. Run it, then run the ingest tab
# with other texts and another idempotencyKey.
subscription Tail {
  tail {
    __typename
    ... on TailEvents {
      cursor
      events { id timestamp system source severity body }
    }
    ... on Gap { dropped resumeCursor }
    ... on Heartbeat { at }
  }
}
`,
  },
  {
    name: "login",
    query: `# Signs in; the page then uses the access token.
# Write your name and password below.
mutation Login($username: String!, $password: String!) {
  login(username: $username, password: $password) {
    tokens { accessToken accessExpiresAt refreshToken }
    user { username role }
  }
}
`,
    variables: JSON.stringify({ username: "admin", password: "" }, null, 2),
  },
];
