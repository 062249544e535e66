-- The rows of activities, and the indexes that say who may take or holds them.
-- A row is the packed fields in the order of `pack_activity`; `cancel` is false unless asked for.

local function token_of(id, execution, command)
  return string.format('%d:%d:%s%s', execution, #command, command, id)
end

local function field_of(execution, command)
  return string.format('%d:%s', execution, command)
end

local function parse_token(token)
  local execution, length, rest = string.match(token, '^(%d+):(%d+):(.*)$')
  length = tonumber(length)
  return string.sub(rest, length + 1), tonumber(execution), string.sub(rest, 1, length)
end

local function pack_activity(row)
  return cmsgpack.pack(
    row.worker, row.queue, row.cancel, row.attempt, row.visible_at, row.scheduled_at,
    row.activity, row.input, row.options, row.failure, row.priority or 0
  )
end

local function unpack_activity(packed)
  local worker, queue, cancel, attempt, visible_at, scheduled_at, activity, input, options, failure,
    priority = cmsgpack.unpack(packed)
  return {
    worker = worker, queue = queue, cancel = cancel, attempt = attempt,
    visible_at = visible_at, scheduled_at = scheduled_at,
    activity = activity, input = input, options = options, failure = failure,
    priority = priority or 0,
  }
end

local function load_activity(id, execution, command)
  local packed = redis.call('HGET', P .. 'a:' .. id, field_of(execution, command))
  return packed and unpack_activity(packed) or nil
end

local function store_activity(id, execution, command, row)
  redis.call('HSET', P .. 'a:' .. id, field_of(execution, command), pack_activity(row))
end

local function hold_activity(token, queue, worker, cancel)
  sadd('running:' .. worker, token)
  if cancel then
    sadd('marked:' .. worker, token)
  end
  count('activities', queue, 1)
end

local function free_activity(token, queue, worker, cancel)
  srem('running:' .. worker, token)
  if cancel then
    srem('marked:' .. worker, token)
  end
  count('activities', queue, -1)
end

-- Take an activity out of the indexes; its row is the caller's business.
local function unlist_activity(token, row)
  if row.worker == '' then
    zrem('visible' .. lane(row.queue, row.priority), token)
  else
    free_activity(token, row.queue, row.worker, row.cancel)
  end
end

local function drop_activity(id, execution, command, row)
  redis.call('HDEL', P .. 'a:' .. id, field_of(execution, command))
  unlist_activity(token_of(id, execution, command), row)
end

-- Give an activity back to all.
local function offer_activity(id, execution, command, row, visible_at)
  local token = token_of(id, execution, command)
  if row.worker ~= '' then
    free_activity(token, row.queue, row.worker, row.cancel)
  end
  row.worker = ''
  row.visible_at = visible_at
  store_activity(id, execution, command, row)
  zadd('visible' .. open_lane(row.queue, row.priority), visible_at, token)
end

-- All of an instance: field, execution, command, row for each.
local function each_activity(id, visit)
  local rows = redis.call('HGETALL', P .. 'a:' .. id)
  for at = 1, #rows, 2 do
    local execution, command = string.match(rows[at], '^(%d+):(.*)$')
    visit(tonumber(execution), command, unpack_activity(rows[at + 1]))
  end
end

-- The fields of an ActivityTask, in its order.
local function describe(id, execution, command, row)
  return {
    id, execution, command, row.activity, row.queue, row.input, row.options, row.attempt,
    exact(row.scheduled_at), row.failure, row.priority,
  }
end
