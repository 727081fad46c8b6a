#!/bin/sh
# From a draft to a rolled-back release, with curl alone: examples/publish.sh [SLUG]
set -eu
base=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
slug=${1:-shop}

call() { # METHOD PATH [JSON]
  echo "== $1 $2"
  curl --silent --show-error --fail-with-body -X "$1" "$base$2" \
    -H 'Content-Type: application/json' -H "Authorization: Bearer ${RUNTIME_TOKEN:-local}" \
    ${3:+-d "$3"}
  echo
}

call POST /agents "{\"name\": \"Shop\", \"slug\": \"$slug\", \"template_id\": \"customer-service-bot\",
  \"template_config\": {\"company_name\": \"Acme\", \"tone\": \"friendly\"}}"
call POST "/agents/$slug@draft/submit"
call POST "/agents/$slug@v1/approve"
call POST /chat/completions \
  "{\"model\": \"$slug\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}"

# The next version begins as a copy of the one that is named, with what is sent changed.
call POST "/agents/$slug/versions" '{"template_config": {"tone": "concise"}}'
call POST "/agents/$slug@v2/submit"
call GET "/agents/$slug@v2/diff"
call POST "/agents/$slug@v2/approve"

call POST "/agents/$slug/rollback"
call GET "/agents/$slug/audit"
