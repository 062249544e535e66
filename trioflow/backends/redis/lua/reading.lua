-- Whole rows, and which of them a filter means.

local STATUSES = { 'running', 'suspended', 'completed', 'failed', 'cancelled', 'terminated' }

-- The row, then how many messages are unread, then ready_at or ''.
local function record(id, fields)
  local row = redis.call('HMGET', P .. 'i:' .. id, unpack(fields))
  local place = redis.call('HMGET', P .. 'i:' .. id, 'worker', 'queue', 'priority', 'deaths')
  local held = place[1] and place[1] ~= ''
  local suspect = place[4] and place[4] ~= ''
  local key = held and 'held:' .. place[1] or place_of(place[2] or '', place[3], suspect)
  local ready_at = redis.call('ZSCORE', P .. key, id)
  if not ready_at or ready_at == 'inf' then
    ready_at = ''
  end
  return { id, row, redis.call('HLEN', P .. 'x:' .. id), ready_at }
end

-- What can be told without the row is told first.
local function means(where, id)
  local prefix = where.id_prefix
  if prefix and string.sub(id, 1, #prefix) ~= prefix then
    return false
  end
  if not where.needs_row then
    return true
  end
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'workflow', 'queue', 'parent', 'created_at', 'finished_at'
  )
  local created_at, finished_at = tonumber(row[5]), tonumber(row[6] or '')
  return row[1]
    and (not where.statuses or where.statuses[row[1]])
    and (not where.workflow or row[2] == where.workflow)
    and (not where.queue or row[3] == where.queue)
    and (not where.parent or (row[4] or '') == where.parent)
    and (not where.created_before or created_at < where.created_before)
    and (not where.created_after or created_at > where.created_after)
    and (not where.finished_before or finished_at and finished_at < where.finished_before)
end

local function read_filter(packed)
  local where = cmsgpack.unpack(packed)
  if #where.status > 0 then
    where.statuses = {}
    for _, status in ipairs(where.status) do
      where.statuses[status] = true
    end
  end
  return where
end
